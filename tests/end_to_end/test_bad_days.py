"""Days on which nothing goes out: an outage, a wrong secret, no balance, an operator's pause.

Real workers meet a gateway that fails; what counts is that no message pays for it. Probes come
when a test rewrites their time, and calls are counted, so that nothing here depends on speed.
Each day comes with single messages, with batches, and with both.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import smsq
from harness.machine import Machine, machine
from harness.vendor_server import accepted, refused
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq.connection import connect
from smsq.contract import Lane
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.reconciler import Reconciler
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.wakeups import ids_of
from smsq_worker.ledger import Admitted, Ledger, RetryLater
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Control

SHAPES = pytest.mark.parametrize("shape", ["singles", "batches", "both"])
NO_PROBE = {"SMSQ_PROBE_S": "3600"}
"""Only when a test says so."""


@pytest.fixture
def day(environ: dict[str, str], tmp_path: Path) -> Iterator[Machine]:
    with machine(environ | NO_PROBE, tmp_path) as running:
        yield running


def send(count: int, shape: str = "singles") -> list[str]:
    """Send messages of lane notice, an even number if both singly and in batches of ten."""
    rows = [{"phone": f"138{n:08}", "template": "SMS_1", "code": "1"} for n in range(count)]
    single = {"singles": count, "batches": 0, "both": count // 2}[shape]
    ids = [smsq.send_sms.delay(**row).id for row in rows[:single]]
    smsq.send_many(rows[single:], lane="notice", batch_size=10, on_batch=ids.extend)
    assert len(ids) == count
    return ids


def control(day: Machine) -> Control:
    return Control(day.client, Settings.load(day.environ).rules)


def scopes(day: Machine) -> list[str]:
    return [pause.scope for pause in control(day).pauses()]


def states(ids: list[str]) -> Counter[str]:
    return Counter(known(message_id).state for message_id in ids)


def in_queue(client: redis.Redis) -> int:
    """Count the messages whose wake-ups are in the queue."""
    found = 0
    for text in client.lrange(Lane.NOTICE.queue, 0, -1):
        found += len(ids_of(text))
    return found


def probe_now(day: Machine, scope: str) -> None:
    """Let the time of the next probe come."""
    pause = json.loads(str(day.client.hget(keys.PAUSES, scope)))
    day.client.hset(keys.PAUSES, scope, json.dumps(pause | {"probe_at": 0}))


def report(day: Machine, mid: str, stat: str) -> None:
    Reconciler(day.ledger, {"": Catalogue.load()}).reconcile([(mid, stat)])


def logged(day: Machine, words: str) -> int:
    return sum(log.read_text().count(words) for log in day.logs.glob("worker*.log"))


@SHAPES
def test_an_operators_pause_leaves_the_queue_alone_until_resumed(day: Machine, shape: str) -> None:
    day.start_worker()
    day.start_worker("-Q", "sms.notice")
    assert control(day).pause(ACCOUNT, "the finance department asked")
    ids = send(30, shape)
    # What a worker had taken before it knew is given back, and it takes no more.
    eventually(lambda: in_queue(day.client) == 30)
    assert not day.vendor.calls
    assert states(ids) == {"queued": 30}

    assert control(day).resume(ACCOUNT, "go on")
    for message_id in ids:
        becomes(message_id, "accepted")
    assert len(day.vendor.calls) == 30
    assert logged(day, "the finance department asked") == logged(day, "go on") == 1
    assert logged(day, "Reject") == 0, "what was given back is no news"


@SHAPES
def test_an_outage_costs_no_message_and_few_calls(day: Machine, shape: str) -> None:
    day.vendor.answer = lambda mid: (500, {})
    for _ in range(2):
        # At most two seconds' worth of calls, 60, are under way without an answer.
        day.start_worker(SMSQ_RATE_PER_S="30", SMSQ_RATE_BURST="30")
    ids = send(150, shape)
    eventually(lambda: scopes(day) == [BREAKER])
    for probes in range(3):
        calls = len(day.vendor.calls)
        probe_now(day, BREAKER)
        eventually(lambda calls=calls: len(day.vendor.calls) > calls)
        assert scopes(day) == [BREAKER], probes
        # Each message that was let go was called.
        eventually(lambda: not states(ids)["sending"])
    assert len(day.vendor.calls) < 100
    assert set(states(ids)) <= {"queued", "deferred"}

    day.vendor.answer = accepted
    probe_now(day, BREAKER)
    for message_id in ids:
        becomes(message_id, "accepted")
    assert scopes(day) == []
    assert logged(day, "paused breaker") == logged(day, "resumed breaker") == 1


@SHAPES
def test_a_wrong_secret_burns_a_handful_and_not_the_backlog(day: Machine, shape: str) -> None:
    day.vendor.answer = refused
    for _ in range(2):
        day.start_worker()
    ids = send(200, shape)
    eventually(lambda: scopes(day) == [ACCOUNT])
    eventually(lambda: "sending" not in states(ids))
    failed = [one for one in ids if known(one).state == "failed"]
    assert len(failed) == 20
    assert logged(day, "paused account") == 1

    day.vendor.answer = accepted
    control(day).resume(ACCOUNT, "the secret is right now")
    for message_id in set(ids) - set(failed):
        becomes(message_id, "accepted")
    assert {known(one).state for one in failed} == {"failed"}


@SHAPES
def test_no_balance_pauses_all_workers_and_a_probe_finds_it_healed(
    day: Machine, shape: str
) -> None:
    for _ in range(3):
        day.start_worker()
    (first,) = send(1)
    mid = becomes(first, "accepted").attempts[0].mid
    assert mid
    report(day, mid, "MA:0015")
    assert known(first).state == "deferred"
    ids = send(60, shape)
    eventually(lambda: in_queue(day.client) == 60)
    assert len(day.vendor.calls) == 1, "a worker called the gateway while the account was paused"

    probe_now(day, ACCOUNT)
    eventually(lambda: len(day.vendor.calls) == 2)
    eventually(lambda: states(ids) == {"accepted": 1, "queued": 59})
    assert scopes(day) == [ACCOUNT], "a probe that was accepted has not been paid for yet"
    report(day, f"{2:016X}", "DELIVRD")
    assert scopes(day) == []
    for message_id in ids:
        eventually(lambda message_id=message_id: known(message_id).state != "queued")
    day.run_out(first)
    assert becomes(first, "accepted").reason is None


def test_a_silent_gateway_is_not_called_on_and_on(environ: dict[str, str]) -> None:
    settings = Settings.load(environ | {"SMSQ_RATE_PER_S": "1"})
    ledger = Ledger(connect(settings.redis_url), settings.rules)
    *first, last = send(21)
    gone = [ledger.admit(message_id) for message_id in first]
    assert all(isinstance(one, Admitted) for one in gone)
    assert isinstance(ledger.admit(last), RetryLater), "20 calls are under way without an answer"

    ledger.record(first[0], 1, Outcome.MAYBE_SENT, detail="ReadTimeout", trouble=True)
    (newer,) = send(1)
    assert isinstance(ledger.admit(newer), Admitted), "one of them has come to something"
    assert isinstance(ledger.admit(last), RetryLater)
    ledger.record(first[1], 1, Outcome.ACCEPTED, detail="", mid="M1")
    assert isinstance(ledger.admit(last), Admitted), "the gateway answers"
