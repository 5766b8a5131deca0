"""Celery's events of tasks: grouped, complete and in their order, for whoever listens."""

from __future__ import annotations

from itertools import count

import smsq
from harness.events import listening, of
from harness.machine import Machine
from harness.remote import remote
from harness.waiting import becomes, eventually

PHONES = (f"138{number:08}" for number in count(1000))
TEMPLATE = "SMS_1001"
WAY = ["task-received", "task-started", "task-succeeded"]


def send() -> str:
    return smsq.send_sms.delay(next(PHONES), TEMPLATE, "482913").id


def test_events_begin_when_they_are_asked_for_and_are_complete_and_in_order(host: Machine) -> None:
    worker = host.start_worker()
    with listening(host.environ["SMSQ_REDIS_URL"]) as seen, remote(host, worker) as asked:
        unseen = send()
        becomes(unseen, "accepted")
        eventually(lambda: not asked.inspect("active"))  # Its last event, too, is not sent.
        assert asked.control("enable_events") == {"ok": "task events enabled"}
        ids = [send() for _ in range(60)]
        eventually(lambda: all(len(of(seen, one)) >= 3 for one in ids))
        for one in ids:
            assert of(seen, one) == WAY
            (received, started, ended) = [e for e in seen if e.get("uuid") == one]
            assert received["clock"] < started["clock"] < ended["clock"]
            assert received["args"].endswith(f"', '{TEMPLATE}')")
            assert "****" in received["args"]
            assert ended["result"] == "accepted"
        assert of(seen, unseen) == []
        assert "482913" not in str(seen)
        asked.control("disable_events")
        becomes(quiet := send(), "accepted")
        asked.inspect("ping")
        assert of(seen, quiet) == []


def test_one_that_is_revoked_is_seen_as_revoked(host: Machine) -> None:
    worker = host.start_worker("-E")
    with listening(host.environ["SMSQ_REDIS_URL"]) as seen, remote(host, worker) as asked:
        asked.control("cancel_consumer", queue="sms.notice")
        revoked = send()
        asked.control("revoke", task_id=revoked)
        asked.control("add_consumer", queue="sms.notice")
        eventually(lambda: len(of(seen, revoked)) >= 3)
        assert of(seen, revoked) == [*WAY[:2], "task-revoked"]
