"""What holds up attempts, and what does not: a silent gateway, a slow recording."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from threading import Event, current_thread

import pytest

import smsq
from harness.machine import Machine
from harness.waiting import eventually
from smsq.contract import Lane
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, AttemptResult
from smsq_worker.sending.attempts import Attempts, Ended
from smsq_worker.sending.wakeup import InHand, WakeUp


@pytest.mark.parametrize("limit", [1, 16])
def test_an_otp_goes_while_two_lanes_hold_all_attempts(host: Machine, limit: int) -> None:
    host.vendor.withhold()
    worker = host.start_worker("--concurrency", str(limit))
    os.kill(worker.pid, signal.SIGSTOP)
    ids = []
    for n in range(50):
        for start, lane in ((130, "bulk"), (131, "notice")):
            ids.append(smsq.send_sms.delay(f"{start}{n:08}", "SMS_1", "1", lane=lane).id)
    os.kill(worker.pid, signal.SIGCONT)
    eventually(lambda: len(host.vendor.calls) >= max(1, limit - 1))
    smsq.send_sms.delay("13200000000", "SMS_1", "1", lane="otp")
    # Before the first read timeout, which is 20 s.
    eventually(lambda: "13200000000" in host.vendor.phones(), 10)

    def each_attempt_has_its_call() -> bool:
        sending = [one for one in map(smsq.status, ids) if one and one.state == "sending"]
        return len(sending) == len(host.vendor.calls) - 1

    eventually(each_attempt_has_its_call, 8)


def test_one_alone_is_recorded_where_it_was_submitted_and_holds_up_no_other() -> None:
    submitted, recorded, goes_on = list[str](), list[tuple[str, str]](), Event()

    def send(wakeup: WakeUp, message_id: str, admitted: Admitted) -> None:
        submitted.append(message_id)
        result = AttemptResult(message_id, admitted.attempt, Outcome.ACCEPTED, "")
        attempts.record_and_complete(Ended(wakeup, message_id, result))

    def finish(ended: Sequence[Ended]) -> None:
        recorded.extend((one.message_id, current_thread().name) for one in ended)
        assert goes_on.wait(60)

    attempts = Attempts(send, finish, limit=2)
    attempts.start()
    for n in range(3):
        wakeup = WakeUp(Lane.OTP, [f"m{n}"], InHand(lambda: None))
        attempts.begin(wakeup, f"m{n}", Admitted(1, "13900000001", "SMS_1", "1", None))
        eventually(lambda: len(submitted) == n + 1)  # noqa: B023 - it is called here
        if not n:
            eventually(lambda: recorded)
    assert recorded == [("m0", "smsq-submit")]
    assert attempts.round_began < float("inf")
    goes_on.set()
    attempts.wait_for_all()
    assert [one for one, _ in recorded] == ["m0", "m1", "m2"]
    assert {name for _, name in recorded[1:]} == {"smsq-record"}
