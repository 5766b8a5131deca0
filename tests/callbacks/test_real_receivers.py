"""Outcomes told by real workers to real receivers."""

from __future__ import annotations

import base64
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from standardwebhooks.webhooks import Webhook

import smsq
from harness.credentials import RELAY, TOKEN
from harness.machine import Machine, dies, machine
from harness.receiver import Receiver
from harness.vendor_server import accepted, refused
from harness.waiting import becomes, eventually
from smsq import keys
from smsq.contract import parse
from smsq.entries import Origin
from smsq.ledger_writer import LedgerWriter
from smsq.tasks import enqueue
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.callbacks import Callbacks

PHONE = "13800138000"
HOUR_MS = 3_600_000
KEY = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def host(environ: dict[str, str], receiver: Receiver, tmp_path: Path) -> Iterator[Machine]:
    own = {
        "SMSQ_WEBHOOK_URL": receiver.url,
        "SMSQ_WEBHOOK_SECRET": KEY,
        "SMSQ_OUTBOUND_ALLOW": "127.0.0.1",
        "SMSQ_READ_TIMEOUT_S": "20",
        "SMSQ_RETRY_MAX_S": "1",
    }
    with machine(environ | own, tmp_path) as running:
        yield running


def fail(host: Machine, count: int = 1) -> list[str]:
    """Send messages that the gateway refuses: their end comes at once.

    Twenty in a row would pause the account.
    """
    host.vendor.answer = refused
    return [
        smsq.send_sms.delay(f"138{n:08}", "SMS_1001", reference=f"r{n}", lane="notice").id
        for n in range(count)
    ]


def test_a_webhook_is_signed_so_that_the_reference_library_takes_it(
    host: Machine, receiver: Receiver
) -> None:
    host.start_worker()
    (message_id,) = fail(host)
    eventually(lambda: receiver.posts)
    path, headers, body = receiver.posts[0]
    assert path == "/hook?of=us"
    data: Any = Webhook(KEY).verify(body.decode(), {k.lower(): v for k, v in headers.items()})
    assert data["type"] == "message.failed"
    assert (data["data"]["id"], data["data"]["reason"]) == (message_id, "gateway:400")
    assert data["data"]["reference"] == "r0"
    assert data["timestamp"] == data["data"]["finished_at"]
    assert {k.lower(): v for k, v in headers.items()}["webhook-id"] == f"{message_id}.failed"
    assert PHONE not in body.decode()


def test_a_receiver_that_fails_for_a_while_gets_every_outcome_once(
    host: Machine, receiver: Receiver
) -> None:
    receiver.status = lambda: 500
    for _ in range(2):
        host.start_worker()
    ids = fail(host, 15)
    for message_id in ids:
        becomes(message_id, "failed")
    eventually(lambda: len(receiver.posts) >= 3)
    receiver.status = lambda: 200
    before = len(receiver.posts)
    eventually(lambda: len(receiver.posts) - before >= 15)
    notices = Callbacks(host.client, Settings.load(host.environ).rules)
    eventually(lambda: notices.counts() == {"waiting": 0, "dead": 0})
    taken = Counter(body["data"]["id"] for body in receiver.bodies[before:])
    # One that was being told as the receiver changed its mind is in neither count for certain.
    assert set(taken) <= set(ids)
    assert {body["data"]["id"] for body in receiver.bodies} == set(ids)
    assert max(taken.values()) == 1


def test_a_notify_task_comes_to_its_queue(environ: dict[str, str], tmp_path: Path) -> None:
    own = {
        "SMSQ_NOTIFY_QUEUE": "shop",
        "SMSQ_NOTIFY_BROKER_URL": environ["SMSQ_REDIS_URL"][:-1] + "5",
    }
    with machine(environ | own, tmp_path) as host:
        host.start_worker()
        host.vendor.answer = refused
        sent = smsq.send_sms.delay(
            PHONE, "SMS_1001", "482913", notify="shop.tasks.told", reference="7"
        )
        broker = host.client.__class__.from_url(
            own["SMSQ_NOTIFY_BROKER_URL"], decode_responses=True
        )
        found: Any = eventually(lambda: broker.lrange("shop", 0, -1))
        broker.flushdb()
        broker.close()
    message = json.loads(found[0])
    (outcome,), kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert message["headers"]["task"] == "shop.tasks.told"
    assert message["headers"]["id"] == f"{sent.id}.failed"
    assert kwargs == {}
    assert (outcome["id"], outcome["state"], outcome["reference"]) == (sent.id, "failed", "7")
    assert outcome["phone"] == "138****8000"
    assert "482913" not in found[0]


def test_a_return_url_gets_the_vendors_own_report(
    host: Machine, receiver: Receiver, environ: dict[str, str]
) -> None:
    host.start_worker()
    origin = Origin("shop", receiver.url.replace("/hook", "/shop"))
    enqueue("m1", parse((PHONE, "SMS_1001", "1"), {}), origin)
    eventually(lambda: host.vendor.calls)
    becomes("m1", "accepted")
    host.ledger.take_in([("0000000000000001", "DELIVRD")], wake_after_s=0)
    becomes("m1", "delivered")
    eventually(lambda: len(receiver.posts) == 2)
    (told,) = [json.loads(body) for path, _, body in receiver.posts if path == "/shop?of=us"]
    assert told == {"mid": "m1", "stat": "DELIVRD"}


@pytest.mark.parametrize("point", ["before notice", "after notice"])
def test_who_dies_while_telling_leaves_it_to_another(
    host: Machine, receiver: Receiver, point: str
) -> None:
    worker = host.start_worker(SMSQ_TEST_KILL_AT=point)
    (message_id,) = fail(host)
    dies(worker)
    # The lease runs out.
    name, key = f"webhook:failed:{message_id}", keys.callback("failed", message_id)
    host.client.hincrby(key, "webhook:taken", -HOUR_MS)
    host.client.zadd(keys.NOTICES, {name: 0})
    host.start_worker()
    eventually(lambda: not host.client.zcard(keys.NOTICES))
    # At least once: the receiver knows the second by its id.
    assert [body["data"]["id"] for body in receiver.bodies] == [message_id] * (
        2 if point == "after notice" else 1
    )


def test_a_slow_receiver_does_not_delay_sending(host: Machine, receiver: Receiver) -> None:
    receiver.gate.clear()
    host.start_worker("--concurrency", "12")
    for message_id in fail(host, 15):
        becomes(message_id, "failed")
    eventually(lambda: len(receiver.posts) == 2)
    host.vendor.answer = accepted
    for n in range(24):
        becomes(smsq.send_sms.delay(f"139{n:08}", "SMS_1001", lane="otp").id, "accepted")
    assert len(receiver.posts) == 2
    receiver.gate.set()
    eventually(lambda: not host.client.zcard(keys.NOTICES))
    assert len(receiver.posts) == 15


def test_entrance_keeps_what_the_relay_says(host: Machine) -> None:
    entrance = LedgerWriter(host.client, Settings.load(host.environ))
    entrance.enter("m1", parse((PHONE, "SMS_1001"), {}), Origin("shop", "https://a.example/x"))
    found: Any = host.client.hmget(keys.message("m1"), "caller", "returnurl")
    assert found == ["shop", "https://a.example/x"]
    assert "a.example" not in repr(Origin("shop", "https://a.example/x"))


@pytest.fixture
def api(environ: dict[str, str], receiver: Receiver, tmp_path: Path) -> Iterator[str]:
    """An API that sends outcomes to the receiver by default; give its URL."""
    url = f"http://127.0.0.1:{free_port()}/"
    own = {
        "SMSQ_API_BIND": urlsplit(url).netloc,
        "SMSQ_HOME": str(tmp_path / "door"),
        "SMSQ_RETURN_URL": receiver.url,
        "SMSQ_OUTBOUND_ALLOW": "127.0.0.1",
    }
    service = services.api(url, environ | own)
    with subprocess.Popen(service.command, env=dict(service.environ)) as process:
        try:
            eventually(service.ready)
            yield url
        finally:
            process.terminate()


def test_a_client_of_the_gateway_changes_its_host_and_gets_its_report(
    host: Machine, receiver: Receiver, api: str
) -> None:
    host.start_worker(SMSQ_WEBHOOK_URL="", SMSQ_WEBHOOK_SECRET="")
    expected = []
    # The last is no spelling of the catalogue's: the caller may know it all the same.
    for n, stat in enumerate(("DELIVRD", "mk:0001"), 1):
        query = (
            "module=sms&file=send&action=send&code=482913&smstemplate=SMS_1001"
            f"&mobphone=1380013800{n}"
        )
        request = Request(f"{api}?{query}", headers={"Authorization": RELAY})
        with urlopen(request) as response:
            answer = json.load(response)
        assert (answer["code"], answer["msg"]) == (200, "ok")
        becomes(answer["mid"], "accepted")
        report = json.dumps({"mid": f"{n:016}", "stat": stat}).encode()
        with urlopen(f"{api}reports/{TOKEN}", report) as response:
            assert response.status == 200
        expected.append({"mid": answer["mid"], "stat": stat})
        eventually(lambda: receiver.bodies == expected)
