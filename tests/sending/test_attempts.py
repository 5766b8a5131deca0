"""What a gateway that has fallen silent holds: no otp, and nothing that is not with it."""

from __future__ import annotations

import os
import signal

import pytest

import smsq
from harness.machine import Machine
from harness.waiting import eventually


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
