"""The gate of a process that is about to end; test_lanes.py has all else."""

from __future__ import annotations

from threading import Thread

import pytest

from smsq.contract import NOTIFY_QUEUE, REPORT_QUEUE, Lane
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater

LANES = [lane.queue for lane in Lane]
ALL = [*LANES, REPORT_QUEUE, NOTIFY_QUEUE]


def test_a_gate_that_is_stopped_stays_shut_whatever_the_scheduler_says() -> None:
    gate = ConsumerGate()
    gate.stop()
    gate.set("open", 20)
    assert gate.open_queues(ALL) == []
    with pytest.raises(RequeueLater, match="stopping"), gate.dispatching():
        pytest.fail("a callback was dispatched")


def test_what_is_given_back_waits_for_the_request_for_more() -> None:
    gate = ConsumerGate()
    gate.wait_for_poll()
    gate.polls(True)
    waiting = Thread(target=gate.wait_for_poll)
    waiting.start()
    assert waiting.is_alive()
    gate.polls(False)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_lane_may_be_closed_while_others_are_open() -> None:
    gate = ConsumerGate()
    queues = [lane.queue for lane in Lane]
    gate.set("open", 20, frozenset({Lane.BULK}))
    assert gate.open_queues(queues) == [Lane.OTP.queue, Lane.NOTICE.queue]
    gate.set("open", 20)
    assert gate.open_queues(queues) == queues
