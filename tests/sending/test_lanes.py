"""The order of service, in one ordinary worker that takes from all queues."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

import smsq
from harness.machine import Machine, dies, ends, machine
from harness.waiting import becomes, eventually, known
from smsq.contract import Lane
from smsq_worker.celery_worker.sanitizer import MaskedRequest
from smsq_worker.sending.consumer_gate import MAX_TAKEN, MIN_WAITING, ConsumerGate

QUEUES = ["sms.otp", "sms.report", "sms.notice", "sms.bulk"]


@pytest.fixture
def slow_rate(environ: dict[str, str], tmp_path: Path) -> Iterator[Machine]:
    rate = {"SMSQ_RATE_PER_S": "10", "SMSQ_RATE_BURST": "1"}
    with machine(environ | rate, tmp_path) as running:
        yield running


def send(count: int, lane: str, start: int = 0) -> list[str]:
    return [
        smsq.send_sms.delay(f"138{n:08}", "SMS_1", "1", lane=lane).id
        for n in range(start, start + count)
    ]


@pytest.mark.parametrize("in_batches", [False, True], ids=["singles", "batches"])
def test_an_otp_does_not_stand_behind_a_campaign_which_keeps_the_rate(
    slow_rate: Machine, in_batches: bool
) -> None:
    seen, times = Event(), list[float]()

    def came(mid: str) -> None:
        times.append(time.monotonic())
        if mid.endswith("14"):
            seen.set()

    slow_rate.vendor.before_answer = came
    if in_batches:
        rows = ({"phone": f"137{n:08}", "template": "SMS_1"} for n in range(400))
        smsq.send_many(rows, batch_size=20)
    else:
        send(400, "bulk")
    slow_rate.start_worker()
    assert seen.wait(60), "twenty bulk messages must go, so that the worker is full of them"
    assert times[19] - times[0] > 0.9 * 19 / 10
    (otp,) = send(1, "otp", start=90_000_000)
    before = len(slow_rate.vendor.calls)
    becomes(otp, "accepted")
    bulk_first = slow_rate.vendor.phones().index("13890000000") - before
    # Those that had booked a turn, or had their call under way.
    assert bulk_first <= 10, f"{bulk_first} bulk messages went first"


def test_a_worker_takes_no_more_of_a_lane_than_it_sends_soon(slow_rate: Machine) -> None:
    slow_rate.vendor.withhold()
    send(100, "bulk")
    slow_rate.start_worker()
    eventually(lambda: len(slow_rate.vendor.calls) >= 3)
    taken = 100 - slow_rate.client.llen(Lane.BULK.queue)
    assert taken <= len(slow_rate.vendor.calls) + 10


def test_who_dies_while_it_waits_leaves_no_doubt(slow_rate: Machine) -> None:
    worker = slow_rate.start_worker(SMSQ_TEST_KILL_AT="while waiting", SMSQ_RATE_PER_S="1")
    ids = send(5, "notice")
    dies(worker)
    called = slow_rate.vendor.phones()
    waiting = [one for one in ids if not known(one).attempts]
    assert waiting, "the message that waited"
    assert {known(one).state for one in waiting} == {"queued"}
    assert not any(f"138{ids.index(one):08}" in called for one in waiting)

    slow_rate.start_worker()
    for one in waiting:
        slow_rate.run_out(one)
        becomes(one, "accepted")
    assert slow_rate.possible_duplicates() == 0


def test_a_worker_that_stops_gives_back_what_waits(slow_rate: Machine) -> None:
    worker = slow_rate.start_worker(SMSQ_RATE_PER_S="0.01")
    ids = send(6, "notice")
    becomes(ids[0], "accepted")
    eventually(lambda: slow_rate.client.llen(Lane.NOTICE.queue) == 5 - MIN_WAITING)
    worker.send_signal(signal.SIGTERM)
    ends(worker, 0)
    queue = [
        json.loads(text)["headers"]["id"]
        for text in slow_rate.client.lrange(Lane.NOTICE.queue, 0, -1)
    ]
    assert set(queue) == set(ids[1:])
    # One more may have been on its way when the gate closed.
    kept = [
        taken for taken in (MIN_WAITING, MIN_WAITING + 1) if queue[: 5 - taken] == ids[:taken:-1]
    ]
    assert kept, "what was given back is the next to be taken"
    assert {known(one).state for one in ids[1:]} == {"queued"}
    assert slow_rate.client.hlen("unacked") == 0


def test_the_gate_opens_all_queues_in_their_order() -> None:
    gate = ConsumerGate()
    assert gate.open_queues(QUEUES) == QUEUES
    gate.set("open", 10)
    assert gate.open_queues(QUEUES) == QUEUES
    assert gate.open_queues(["sms.bulk", "foreign"]) == ["sms.bulk", "foreign"]


def test_the_gate_keeps_reports_open_in_a_pause() -> None:
    gate = ConsumerGate()
    gate.set("open", 10)
    gate.close()
    assert gate.open_queues(QUEUES) == ["sms.report"]


def test_the_gate_takes_one_wake_up_as_a_probe() -> None:
    gate = ConsumerGate()
    gate.set("probe", 10)
    assert gate.open_queues(QUEUES) == QUEUES
    gate.taken("sms.report")
    assert gate.open_queues(QUEUES) == QUEUES
    gate.taken("sms.bulk")
    assert gate.open_queues(QUEUES) == ["sms.report"]
    gate.set("probe", 10)
    assert gate.open_queues(QUEUES) == QUEUES


def test_after_wake_ups_of_which_nothing_is_sent_the_gate_takes_the_next_at_once_and_more() -> None:
    gate = ConsumerGate()
    gate.set("probe", 10)
    for count in (1, 2, 4, 8, 16, MAX_TAKEN, MAX_TAKEN):
        assert gate.open_queues(QUEUES) == QUEUES
        assert gate.room(QUEUES) == count
        gate.taken("sms.bulk")
        assert gate.takes_more("sms.bulk")
        assert gate.crowded()
        assert gate.open_queues(QUEUES) == ["sms.report"]
        gate.was_no_probe()
    gate.taken("sms.bulk")
    gate.close()  # the ledger says: paused
    gate.was_no_probe()
    assert not gate.takes_more("sms.bulk")
    assert gate.open_queues(QUEUES) == ["sms.report"]
    gate.set("probe", 10)
    assert gate.room(QUEUES) == 1


def test_what_is_no_probe_opens_no_gate_that_is_closed_or_at_its_end() -> None:
    gate = ConsumerGate()
    gate.close()
    gate.was_no_probe()
    assert gate.open_queues(QUEUES) == ["sms.report"]
    gate.set("probe", 10)
    gate.taken("sms.bulk")
    gate.stop()
    assert not gate.takes_more("sms.bulk")


def test_a_gate_whose_clock_is_stuck_opens() -> None:
    gate = ConsumerGate()
    gate.close()
    gate._until = 0
    assert gate.open_queues(QUEUES) == QUEUES


def test_a_lane_is_closed_from_when_enough_of_it_waits_until_half_of_that_is_left() -> None:
    gate = ConsumerGate()
    gate.set("open", 20)
    gate.add(Lane.BULK, 9)
    assert not gate.crowded()
    gate.add(Lane.BULK, 1)
    assert gate.crowded()
    assert gate.open_queues(QUEUES) == ["sms.otp", "sms.report", "sms.notice"]
    gate.remove(Lane.BULK, 4)
    assert gate.open_queues(QUEUES) == ["sms.otp", "sms.report", "sms.notice"]
    gate.remove(Lane.BULK, 1)
    assert gate.open_queues(QUEUES) == QUEUES


def test_as_many_wake_ups_are_taken_at_once_as_may_wait_but_only_one_where_batches_come() -> None:
    gate = ConsumerGate()
    gate.set("open", 20)
    assert gate.room(["sms.report"]) == MAX_TAKEN
    for lane in Lane:
        gate.add(lane, 1)
    assert gate.room(QUEUES) == 9
    gate.set("probe", 20)
    assert gate.room(QUEUES) == 1
    gate.set("open", 1000)
    assert gate.room(QUEUES) == MAX_TAKEN
    gate.add(Lane.BULK, 100)
    assert gate.room(QUEUES) == 1


def test_reports_are_left_in_their_queue_while_enough_are_in_hand() -> None:
    gate = ConsumerGate()
    gate.set_threads(8)
    requests = [MaskedRequest.__new__(MaskedRequest) for _ in range(4)]
    for request in requests:
        gate.pool.add(request)
    assert gate.open_queues(QUEUES) == ["sms.otp", "sms.notice", "sms.bulk"]
    assert gate.crowded()
    # One that Celery has forgotten, as after a lost connection, is not counted.
    del request, requests[0]
    assert gate.open_queues(QUEUES) == QUEUES
