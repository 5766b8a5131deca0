"""The channels of callbacks, as settings make them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError
from standardwebhooks import Webhook

from harness.receiver import Receiver
from smsq_worker.callbacks.channels import channels
from smsq_worker.callbacks.poster import Posted
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.callbacks import Callback

KEY = f"whsec_{b64encode(bytes(range(32))).decode()}"
OUTCOME = {"id": "订单 7781", "state": "delivered", "finished_at": "2026-03-01T08:00:00+00:00"}
WEBHOOK = Callback(
    "webhook:delivered:订单 7781",
    kind="webhook",
    failures=0,
    tries=1,
    outcome=OUTCOME,
    notify=None,
    return_url=None,
    caller="",
    trace=None,
)


def test_a_webhook_of_an_id_in_chinese_is_told_and_verifies(environ: dict[str, str]) -> None:
    with Receiver() as receiver:
        own = {
            "SMSQ_WEBHOOK_URL": receiver.url,
            "SMSQ_WEBHOOK_SECRET": KEY,
            "SMSQ_OUTBOUND_ALLOW": "127.0.0.1",
        }
        posted = channels(Settings.load(environ | own))["webhook"](WEBHOOK)
    assert posted == Posted(done=True, detail="HTTP 200")
    ((_, headers, body),) = receiver.posts
    found: Any = Webhook(KEY).verify(body.decode(), {k.lower(): v for k, v in headers.items()})
    assert found["data"]["id"] == "订单 7781"


def test_a_task_that_cannot_be_serialised_is_no_fault_of_the_broker(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_task(*_: object, **__: object) -> None:
        raise EncodeError

    monkeypatch.setattr(Celery, "send_task", send_task)
    task = channels(Settings.load(environ))["task"]
    posted = task(replace(WEBHOOK, kind="task", notify="shop.told"))
    assert (posted.done, posted.why) == (False, "unsendable")
