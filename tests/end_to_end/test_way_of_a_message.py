"""The whole way: send_sms.delay, a real worker, a gateway written from the vendor's page, a report
through the API, delivered."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis
import requests
from celery import Celery

import smsq
from harness.credentials import RELAY, SECRET, TOKEN
from harness.vendor_server import VendorServer
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq.connection import connect
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Service, Stack
from smsq_worker.infra.ports import free_port

PHONE = "13800138000"
CODE = "482913"
PATIENCE_S = 30.0
"""Only a fault reaches it."""


@dataclass
class Running:
    vendor: VendorServer
    api: str
    logs: Path

    def report(self, body: object) -> requests.Response:
        return requests.post(f"{self.api}reports/{TOKEN}", json=body, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def running(
    base_environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    logs = tmp_path_factory.mktemp("logs")
    stack = Stack(logs)
    port = free_port()
    api = f"http://127.0.0.1:{port}/"
    with VendorServer() as vendor:
        environ = base_environ | {
            "SMSQ_GATEWAY_URL": vendor.url,
            "SMSQ_API_BIND": f"127.0.0.1:{port}",
            # No call is ever in doubt because a process gets no time.
            "SMSQ_READ_TIMEOUT_S": "60",
            "SMSQ_LEASE_S": "120",
        }
        worker = services.worker(environ["SMSQ_REDIS_URL"], environ)
        # As the contract's users start it.
        command = [sys.executable, "-m", "celery", "-A", "smsq_worker", *worker.command[3:]]
        try:
            stack.start(services.api(api, environ))
            stack.start(Service("worker", command, environ, worker.ready))
            yield Running(vendor, api, logs)
        finally:
            stack.stop()


@pytest.fixture
def way(running: Running, base_environ: dict[str, str]) -> Running:
    # Not flushall: it would take the worker's queues from under it.
    client = connect(base_environ["SMSQ_REDIS_URL"])
    stale = [*client.scan_iter("smsq:*")]
    if stale:
        client.delete(*stale)
    client.close()
    running.vendor.calls.clear()
    running.vendor.before_answer = lambda mid: None
    return running


def test_a_message_goes_as_documented_and_its_report_makes_it_delivered(way: Running) -> None:
    result = smsq.send_sms.delay(PHONE, "SMS_1001", "验证 48&29", lane="otp", reference="r1")
    accepted = becomes(result.id, "accepted")

    ((path, headers),) = way.vendor.calls
    assert urlsplit(path).path == "/"
    assert parse_qsl(urlsplit(path).query, keep_blank_values=True) == [
        ("module", "sms"),
        ("file", "send"),
        ("action", "send"),
        ("mobphone", PHONE),
        ("code", "验证 48&29"),
        ("smstemplate", "SMS_1001"),
    ]
    assert headers["Authorization"] == SECRET

    mid = accepted.attempts[0].mid
    answer = way.report({"mid": mid, "stat": "DELIVRD"})
    assert (answer.status_code, answer.json()) == (200, {"code": 200, "msg": "ok"})
    status = becomes(result.id, "delivered")
    assert (status.stat, status.phone, status.reference) == ("DELIVRD", "138****8000", "r1")
    assert status.accepted_at is not None
    assert status.finished_at is not None
    assert status.enqueued_at <= status.accepted_at <= status.finished_at

    told = requests.get(
        f"{way.api}messages/{result.id}", headers={"Authorization": RELAY}, timeout=PATIENCE_S
    ).json()
    assert (told["id"], told["state"]) == (result.id, "delivered")


def test_a_report_that_comes_before_the_answer_is_not_lost(
    way: Running, client: redis.Redis
) -> None:
    def report_first(mid: str) -> None:
        way.report({"mid": mid, "stat": "DELIVRD"})
        # The answer is not given before the report has been reconciled, and parked.
        eventually(lambda: client.zscore(keys.PARKED, mid))

    way.vendor.before_answer = report_first
    result = smsq.send_sms.delay(PHONE, "SMS_1001", CODE)
    assert becomes(result.id, "delivered").stat == "DELIVRD"


def test_reports_may_come_as_an_array(way: Running) -> None:
    results = [smsq.send_sms.delay(PHONE, "SMS_1001", CODE) for _ in range(3)]
    mids = [becomes(result.id, "accepted").attempts[0].mid for result in results]
    way.report([{"mid": mid, "stat": "MA:0001"} for mid in mids])
    for result in results:
        assert becomes(result.id, "failed").reason == "report:MA:0001"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        pytest.param(["12345", "SMS_1001", CODE], {}, id="bad number"),
        pytest.param([], {"phone": PHONE}, id="no template"),
        pytest.param([PHONE, "SMS_1001", 482913], {}, id="code is a number"),
        pytest.param([PHONE, "SMS_1001"], {"lane": "fast"}, id="no such lane"),
        pytest.param([PHONE, "SMS_1001"], {"nonsense": 1}, id="no such argument"),
        pytest.param([{"a": [1]}, None, None, 4, 5], {}, id="rubbish"),
    ],
)
def test_a_bare_message_that_breaks_the_rules_fails(
    way: Running, base_environ: dict[str, str], args: list[object], kwargs: dict[str, object]
) -> None:
    with foreign(base_environ) as app:
        sent = app.send_task("smsq.send_sms", args, kwargs, queue="sms.notice")
    status = becomes(sent.id, "failed")
    assert status.reason == "local:invalid"
    assert PHONE not in str(status.detail)
    assert not way.vendor.calls


def test_a_bare_message_that_keeps_the_rules_is_sent(
    way: Running, base_environ: dict[str, str]
) -> None:
    with foreign(base_environ) as app:
        sent = app.send_task("smsq.send_sms", [PHONE, "SMS_1001", CODE], queue="sms.otp")
    becomes(sent.id, "accepted")


@pytest.mark.parametrize("option", ["countdown", "expires"])
def test_celerys_own_delays_are_refused_because_they_would_wait_in_a_workers_memory(
    way: Running, base_environ: dict[str, str], option: str
) -> None:
    with foreign(base_environ) as app:
        sent = app.send_task(
            "smsq.send_sms", [PHONE, "SMS_1001"], queue="sms.otp", **{option: 3600}
        )
    assert becomes(sent.id, "failed").reason == "local:invalid"


def envelope(**changes: object) -> dict[str, object]:
    message: dict[str, object] = {
        "body": json.dumps([[PHONE, "SMS_1001", CODE], {}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "php", "task": "smsq.send_sms", "id": "by-hand-1"},
        "properties": {
            "correlation_id": "by-hand-1",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "sms.notice"},
            "priority": 0,
            "delivery_tag": "tag-1",
        },
    }
    return message | changes


@pytest.mark.parametrize(
    ("changes", "has_id"),
    [
        pytest.param({"body": "{not json"}, True, id="body is no JSON"),
        pytest.param({"body": "[1, 2]"}, True, id="body is no triple"),
        pytest.param({"body": '["a", "b", "c"]'}, True, id="args and kwargs are texts"),
        pytest.param({"content-type": "application/x-python-serialize"}, True, id="pickle"),
        pytest.param({"headers": {"task": "smsq.send_sms"}}, False, id="no id"),
        pytest.param({"headers": {"task": "smsq.send_sms", "id": 7}}, False, id="id is a number"),
        pytest.param({"headers": {"task": "no.such.task", "id": "x"}}, False, id="no such task"),
        pytest.param({"headers": {}}, False, id="no headers"),
        pytest.param(
            {"headers": {"task": "smsq.send_sms", "id": "by-hand-1", "timelimit": "x"}},
            False,
            id="odd headers",
        ),
    ],
)
def test_a_hand_made_message_never_ends_the_worker(
    way: Running, client: redis.Redis, changes: dict[str, object], has_id: bool
) -> None:
    client.lpush("sms.notice", json.dumps(envelope(**changes)))
    after = smsq.send_sms.delay(PHONE, "SMS_1001", CODE)
    becomes(after.id, "accepted")
    if has_id:
        assert becomes("by-hand-1", "failed").reason == "local:invalid"
    eventually(lambda: not client.exists("unacked"))


def test_the_worker_shows_no_number_code_or_secret_in_its_log(way: Running) -> None:
    becomes(smsq.send_sms.delay(PHONE, "SMS_1001", CODE).id, "accepted")
    log = (way.logs / "worker.log").read_text()
    assert "smsq.send_sms" in log
    for secret in (PHONE, CODE, SECRET, TOKEN):
        assert secret not in log


def test_the_status_of_an_unknown_message_is_none(way: Running) -> None:
    assert smsq.status("nobody") is None
    assert known(smsq.send_sms.delay(PHONE, "SMS_1001").id).state


def foreign(environ: dict[str, str]) -> Celery:
    """Another team's app on our broker, which knows no more than the contract."""
    return Celery("foreign", broker=environ["SMSQ_REDIS_URL"], set_as_current=False)
