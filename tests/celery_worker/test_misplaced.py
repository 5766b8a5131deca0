"""Which tasks are taken from which queue."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import redis

from harness.scene import Scene
from harness.wire import with_body
from smsq import keys, wakeup
from smsq.app import QUEUES, app
from smsq.contract import Lane
from smsq_worker.celery_worker.envelope import sanitize_envelope
from smsq_worker.celery_worker.misplaced import Misplaced
from smsq_worker.doctor.ledger import check_messages

LANES = {lane.queue for lane in Lane}
OWN = {
    "smsq.send_sms": LANES,
    "smsq.send_batch": LANES,
    "smsq.reconcile_report": {"sms.report"},
    "smsq.notify_outcome": {"sms.notify"},
    "somebody.elses": set(QUEUES),  # Celery refuses it, as one that is not registered.
}


def found(task: str, queue: str, *args: object) -> dict[str, Any]:
    message = with_body(args, {}, {})
    message["headers"]["task"] = task
    return sanitize_envelope(message, queue)


@pytest.mark.parametrize("task", OWN)
def test_each_task_has_its_queues(task: str) -> None:
    assert {queue for queue in QUEUES if Misplaced().admits(found(task, queue), queue)} == OWN[task]


@pytest.mark.parametrize("lane", Lane)
def test_what_smsq_publishes_is_in_its_place(lane: Lane) -> None:
    one = json.loads(wakeup.of_one(app, "m1", lane, "()").envelope)
    many = json.loads(wakeup.of_batches(app, [lane])[-1].replace("@COUNT@", "1"))
    for message in (one, many):
        assert Misplaced().admits(sanitize_envelope(message, lane.queue), lane.queue)


def test_a_flood_is_counted_and_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    misplaced = Misplaced()
    for _ in range(3):
        for _ in range(5):
            message = found("smsq.reconcile_report", "sms.otp", "138", "DELIVRD")
            assert not misplaced.admits(message, "sms.otp")
        misplaced.tell(scene.ledger)
    misplaced.tell(scene.ledger)
    (told,) = [one for one in caplog.records if one.levelno == logging.CRITICAL]
    assert "smsq.reconcile_report from sms.otp" in told.getMessage()
    assert scene.ledger.counters()["set_aside:task"] == 15
    assert scene.client.zcard(keys.BAD) == 1
    advice = " ".join(one.advice for one in check_messages(scene.client))
    assert "task:smsq.reconcile_report in sms.otp" in advice


def test_what_cannot_be_counted_keeps_nothing_waiting(scene: Scene, client: redis.Redis) -> None:
    misplaced = Misplaced()
    assert not misplaced.admits(found("smsq.notify_outcome", "sms.bulk"), "sms.bulk")
    client.config_set("maxmemory", 1)
    try:
        misplaced.tell(scene.ledger)
    finally:
        client.config_set("maxmemory", 0)
