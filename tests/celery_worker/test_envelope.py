"""Envelope bombs: a kilobyte in a queue neither ends a worker nor fills its memory."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from harness.waiting import eventually
from harness.wire import Envelope, Wire, example, fresh, wired, with_body
from smsq import keys
from smsq.functions import LIBRARY
from smsq_worker.celery_worker.envelope import MAX_ENVELOPE, read, sanitize_envelope
from smsq_worker.delivery_reports.inbox import BATCH
from smsq_worker.ledger.functions import libraries

PHONE = "13800138000"
GROWTH_MB = 150
"""A bomb of these would be nearly three times as much."""
ZEROS = b"0" * 20_000_000
DEEP = 100_000


@pytest.fixture(scope="module")
def wire(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wire]:
    with wired(base_environ, tmp_path_factory.mktemp("wire")) as running:
        yield running


@pytest.fixture
def unharmed(wire: Wire) -> Iterator[Wire]:
    """A worker that goes on with the next message as if nothing had been."""
    before = peak_mb(wire)
    yield wire
    wire.becomes(wire.push(fresh(example())), "accepted")
    eventually(lambda: not wire.host.client.exists("unacked", "sms.otp", "sms.report"))
    assert wire.host.workers[0].poll() is None
    assert peak_mb(wire) < before + GROWTH_MB
    assert PHONE not in (wire.host.logs / "worker0.log").read_text()


def peak_mb(wire: Wire) -> int:
    """Return the most memory that the worker has had so far."""
    pid = wire.host.workers[0].pid
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    kilobytes = int(found[1]) if found else psutil.Process(pid).memory_info().rss // 1024
    return kilobytes // 1024


def fails(wire: Wire, envelope: Envelope | str | bytes, message_id: str) -> None:
    raw = json.dumps(envelope) if isinstance(envelope, dict) else envelope
    wire.host.client.lpush("sms.otp", raw)
    told = wire.becomes(message_id, "failed")
    assert told["reason"] == "local:invalid"


def bomb(packed: bytes, **parts: Any) -> Envelope:
    message = fresh(example())
    message["body"] = base64.b64encode(packed).decode()
    message["headers"] |= parts.pop("headers", {})
    return message | {name.replace("_", "-"): value for name, value in parts.items()}


def gzipped() -> bytes:
    packer = zlib.compressobj(6)
    return b"".join([*(packer.compress(ZEROS) for _ in range(20)), packer.flush()])


PACKED: dict[str, Callable[[], bytes]] = {
    "bzip2": lambda: bz2.compress(ZEROS) * 20,
    "gzip": gzipped,
    "lzma": lambda: lzma.compress(ZEROS, preset=0) * 20,
}


@cache
def packed(kind: str) -> bytes:
    """Return what becomes 400 MB when it is unpacked."""
    return PACKED.get(kind, bytes)()


@pytest.mark.parametrize("name", ["bzip2", "application/x-bz2", "gzip", "zlib", "lzma", "zstd", 7])
def test_nothing_is_decompressed(unharmed: Wire, name: str | int) -> None:
    kind = {"application/x-bz2": "bzip2", "zlib": "gzip"}.get(str(name), str(name))
    message = bomb(packed(kind), headers={"compression": name})
    fails(unharmed, message, message["headers"]["id"])


@pytest.mark.parametrize("charset", ["bz2", "zlib", "bz2_codec", "zip", "idna", "unicode_escape"])
@pytest.mark.parametrize("content_type", ["application/data", "application/text", "", "text/plain"])
def test_no_charset_is_a_way_around_it(unharmed: Wire, charset: str, content_type: str) -> None:
    kind = "bzip2" if charset.startswith("bz2") else "gzip"
    message = bomb(packed(kind), content_encoding=charset, content_type=content_type)
    fails(unharmed, message, message["headers"]["id"])


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-yaml",
        "application/x-python-serialize",
        "application/x-msgpack",
        "application/JSON",
        "pickle",
        None,
        5,
    ],
)
def test_one_content_type_is_decoded(unharmed: Wire, content_type: object) -> None:
    message = fresh(example()) | {"content-type": content_type}
    fails(unharmed, message, message["headers"]["id"])


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def envelope_with(message_id: str, raw: str) -> str:
    """Return the text of an envelope with a part that json.dumps would not write."""
    message = fresh(example()) | {"x": "HERE"}
    message["headers"]["id"] = message_id
    return json.dumps(message).replace('"HERE"', raw)


UNDECODABLE = {
    "deep": nested(DEEP),
    "deep-objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "a-number-without-end": "9" * 5000,
    "a-type-that-is-none": '{"__type__":"uuid","__value__":5}',
    "a-decimal-that-is-none": '{"__type__":"decimal","__value__":"x"}',
    "a-type-of-a-type": '{"__type__":[],"__value__":1}',
    "too-long": '"' + "x" * MAX_ENVELOPE + '"',
}


@pytest.mark.parametrize("raw", UNDECODABLE.values(), ids=UNDECODABLE)
def test_what_cannot_be_decoded_fails_under_its_id(unharmed: Wire, raw: str) -> None:
    message_id = str(uuid4())
    fails(unharmed, envelope_with(message_id, raw), message_id)


def test_what_is_no_utf_8_fails_under_its_id(unharmed: Wire) -> None:
    message_id = str(uuid4())
    raw = envelope_with(message_id, '"短信"').encode("gbk")
    fails(unharmed, raw, message_id)


@pytest.mark.parametrize("raw", UNDECODABLE.values(), ids=UNDECODABLE)
@pytest.mark.parametrize("queue", ["sms.report", "sms.notify"])
def test_of_other_tasks_it_is_dropped(unharmed: Wire, queue: str, raw: str) -> None:
    text = envelope_with("x", raw).replace("smsq.send_sms", "smsq.reconcile_report")
    unharmed.host.client.lpush(queue, text)
    eventually(lambda: not unharmed.host.client.exists(queue))
    assert not unharmed.host.client.exists(keys.message("x"))


def as_body(raw: str) -> Envelope:
    return fresh(example()) | {"body": base64.b64encode(raw.encode()).decode()}


BODIES = {
    "deep": nested(DEEP),
    "deep-in-an-argument": f'[["13800138000", {nested(900)}], {{}}, {{}}]',
    "deep-in-what-is-embedded": f'[["13800138000"], {{}}, {{"chord": {nested(900)}}}]',
    "many": "[" + ",".join(["[]"] * 250_000) + "]",
    "a-number-without-end": f'[["13800138000", {"9" * 5000}], {{}}, {{}}]',
    "a-huge-argument": f'[["13800138000", "{"9" * 700_000}"], {{}}, {{}}]',
    "a-huge-name": f'[["13800138000"], {{"{"9" * 700_000}": 1}}, {{}}]',
    "a-huge-power": '[["13800138000", "SMS_1001"], {"ttl_s": 1e400}, {}]',
    "a-decimal": '[[], {"ttl_s": {"__type__":"decimal","__value__":"1e99999999"}}, {}]',
    "each-twice": '[["13800138000", "SMS_1001"], {"lane": "otp", "lane": "fast"}, {}]',
    "a-text": '"abc"',
}


@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
def test_a_body_that_is_a_bomb_fails_under_its_id(unharmed: Wire, raw: str) -> None:
    message = as_body(raw)
    fails(unharmed, message, message["headers"]["id"])


TIMES = '{"send_at": {"__type__":"datetime","__value__":"2026-01-01T00:00:00+00:00"}}'


@pytest.mark.parametrize("header", ["eta", "expires"])
def test_a_delay_of_celerys_is_refused_whatever_is_in_the_body(unharmed: Wire, header: str) -> None:
    message = as_body(f'[["{PHONE}", "SMS_1001"], {TIMES}, {{}}]')
    message["headers"][header] = {"deep": json.loads(nested(500))}
    fails(unharmed, message, message["headers"]["id"])


EMBEDDED: dict[str, dict[str, object]] = {
    "callbacks": {"callbacks": [{"task": "x"}]},
    "a-request's-own": {"id": "", "args": [], "delivery_info": None, "hostname": 0},
    "retries": {"retries": 0},
}


@pytest.mark.parametrize("embedded", EMBEDDED.values(), ids=EMBEDDED)
def test_what_is_embedded_changes_nothing(unharmed: Wire, embedded: dict[str, object]) -> None:
    message = as_body(f'[["{PHONE}", "SMS_1001"], {TIMES}, {json.dumps(embedded)}]')
    unharmed.becomes(unharmed.push(message), "accepted")


def of_celery_3(**told: object) -> Envelope:
    body = {"task": "smsq.send_sms", "id": str(uuid4()), "args": [PHONE, "SMS_1001"]} | told
    return as_body(json.dumps(body)) | {"headers": {}}


def id_in(message: Envelope) -> str:
    return str(json.loads(base64.b64decode(message["body"]))["id"])


@pytest.mark.parametrize("more", [{}, {"timelimit": 5, "errbacks": 5, "retries": "x", "chord": 5}])
def test_celerys_older_protocol_is_taken_without_what_it_could_ask_for(
    unharmed: Wire, more: dict[str, object]
) -> None:
    message = of_celery_3(**more)
    unharmed.push(message)
    unharmed.becomes(id_in(message), "accepted")


@pytest.mark.parametrize("more", [{"eta": 5}, {"expires": "x"}, {"kwargs": 5}, {"args": {"a": 1}}])
def test_a_mistake_in_it_fails_under_its_id(unharmed: Wire, more: dict[str, object]) -> None:
    message = of_celery_3(**more)
    fails(unharmed, message, id_in(message))


ODD: dict[str, Envelope] = {
    "no-id": of_celery_3(id=None),
    "no-such-task": of_celery_3(task="x", id=5),
    "no-task": of_celery_3(task=[5]),
    "no-mapping": as_body("5") | {"headers": {}},
    "compressed": bomb(b"x") | {"headers": {"compression": "bzip2"}},
    "a-task-and-no-id": {**example(), "headers": {"task": "no.such.task"}},
}


@pytest.mark.parametrize("envelope", ODD.values(), ids=ODD)
def test_what_has_no_task_or_no_id_is_not_sent(unharmed: Wire, envelope: Envelope) -> None:
    before = len(unharmed.host.vendor.calls)
    unharmed.host.client.lpush("sms.otp", json.dumps(envelope))
    eventually(lambda: not unharmed.host.client.exists("sms.otp", "unacked"))
    assert len(unharmed.host.vendor.calls) == before


HEADERS: dict[str, object] = {
    "argsrepr": "x" * 700_000,
    "kwargsrepr": json.loads(nested(400)),
    "root_id": {"a": 1},
    "retries": 10**300,
    "group_index": "x",
    "timelimit": "x",
    "ignore_result": "x",
    "shadow": PHONE,
    "replaced_task_nesting": "x",
    "stamped_headers": 5,
    "traceparent": [PHONE],
    "x": "\ud800",
}


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_harms(unharmed: Wire, name: str) -> None:
    message = fresh(example())
    message["headers"][name] = HEADERS[name]
    unharmed.becomes(unharmed.push(message), "accepted")


PROPERTIES: dict[str, object] = {
    "delivery_tag": "\ud800",
    "reply_to": [PHONE],
    "correlation_id": {"a": 1},
    "priority": "x",
    "delivery_info": nested(100),
    "expiration": -1,
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_property_harms(unharmed: Wire, name: str) -> None:
    message = fresh(example())
    message["properties"][name] = PROPERTIES[name]
    unharmed.becomes(unharmed.push(message), "accepted")


REPORTS: list[object] = [
    [[["M", "DELIVRD", "x"]]],
    [[["M" * 1000, "DELIVRD"], ["\ud800", "DELIVRD"], [5, None], {}, "MD"]],
    [5],
    [None],
    [{"mid": "M"}],
    ["M", 5],
]


@pytest.mark.parametrize("args", REPORTS)
def test_what_is_no_report_is_left_out(unharmed: Wire, args: list[object]) -> None:
    sent = [[*args, ["GOOD", "DELIVRD"]]] if args == [5] else args
    message = with_body(sent, {}, {})
    message["headers"]["task"] = "smsq.reconcile_report"
    unharmed.push(message, "sms.report")
    eventually(lambda: not unharmed.host.client.exists("sms.report", "unacked"))
    assert not [key for key in unharmed.host.client.scan_iter("smsq:early:*") if "GOOD" not in key]


def test_reports_without_number_are_no_single_act(unharmed: Wire) -> None:
    many = [[f"M{n}", "MO:200"] for n in range(3 * BATCH + 1)]
    message = with_body([many], {}, {})
    message["headers"]["task"] = "smsq.reconcile_report"
    unharmed.host.client.config_resetstat()
    unharmed.push(message, "sms.report")
    eventually(lambda: unharmed.host.client.zscore(keys.PARKED, f"M{3 * BATCH}"))
    assert unharmed.host.client.zcard(keys.PARKED) >= len(many)


def test_a_worker_loads_the_functions_of_producers_wherever_they_are_not(wire: Wire) -> None:
    wire.host.client.function_flush()
    eventually(lambda: (LIBRARY, True) in libraries(wire.host.client))


ELSEWHERE: dict[str, tuple[str, list[object], str]] = {
    "a-report-in-a-lane": ("smsq.reconcile_report", [[["FORGED", "DELIVRD"]]], "sms.otp"),
    "an-old-report-in-a-lane": ("smsq.reconcile_report", ["FORGED", "DELIVRD"], "sms.otp"),
    "a-callback-in-a-lane": ("smsq.notify_outcome", ["task:delivered:x"], "sms.otp"),
    "a-report-among-callbacks": ("smsq.reconcile_report", ["FORGED", "DELIVRD"], "sms.notify"),
    "a-batch-among-reports": ("smsq.send_batch", [["x"]], "sms.report"),
    "a-wake-up-among-reports": ("smsq.send_sms", [], "sms.report"),
}


@pytest.mark.parametrize(("task", "args", "queue"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_task_is_taken_from_its_own_queue_only(
    unharmed: Wire, task: str, args: list[object], queue: str
) -> None:
    ledger = unharmed.host.client

    def counted() -> int:
        return int(ledger.hget(keys.BAD_COUNTS, "task") or 0)  # type: ignore[arg-type]

    before = counted()
    message = with_body(args, {}, {})
    message["headers"]["task"] = task
    message_id = unharmed.push(message, queue)
    eventually(lambda: counted() == before + 1)
    assert ledger.zscore(keys.BAD, f"task:{task} in {queue}")
    assert not ledger.exists(keys.early("FORGED"), keys.message(message_id), queue)
    log = unharmed.host.logs / "worker0.log"
    eventually(lambda: f"of {task} from {queue}" in log.read_text())


def test_a_bare_message_that_is_found_elsewhere_fails_under_its_id(unharmed: Wire) -> None:
    message_id = unharmed.push(fresh(example()), "sms.report")
    told = unharmed.becomes(message_id, "failed")
    assert told["reason"] == "local:invalid"
    assert "wrong_queue" in unharmed.field(message_id, "detail")


def test_the_longest_of_ours_is_within_the_bound() -> None:
    ids = ["x" * 255] * 1000
    body = base64.b64encode(json.dumps([[ids], {}, {}]).encode())
    assert len(body) < MAX_ENVELOPE / 2
    item = json.dumps({"body": body.decode()}).encode()
    assert read(item) == json.loads(item)


def test_what_is_made_sound_stays_as_it_is_when_it_is_given_back() -> None:
    for message in (
        example(),
        bomb(b"x", headers={"compression": "bzip2", "eta": 5, "id": 7}),
        {"headers": 5},
        *ODD.values(),
        of_celery_3(),
    ):
        once = sanitize_envelope(message, "sms.otp")
        assert sanitize_envelope(json.loads(json.dumps(once)), "sms.otp") == once
