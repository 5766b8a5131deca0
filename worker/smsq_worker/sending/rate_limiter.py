"""Waiting for a slot under the one rate of all workers.

Each lane has one thread that asks the ledger, for all messages of the lane that wait in this
process. A process that dies while they wait leaves nothing in doubt: no attempt had begun.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

from smsq.errors import LedgerUnavailable
from smsq_worker.ledger import Admission, Admitted, Ledger, Rejected
from smsq_worker.ledger.errors import SchemaTooNew
from smsq_worker.sending.consumer_gate import ConsumerGate, RequeueLater
from smsq_worker.sending.waiting import Waiting

LATE_S: Final = 0.003
"""On a busy machine a thread may wake up late; a request later than this would crowd others."""
MAX_SEND_TIMES: Final = 5
FAR_S: Final = 0.005
"""A ledger further away than that cannot make a send time exact."""
CROWD_PER_S: Final = 500
"""At such a rate requests follow each other so closely that a few ms do not matter."""
PAUSED: Final = Rejected("paused", None)


class RateLimiter:
    """Admits messages, each in its slot. Threads share it."""

    def __init__(self, ledger: Ledger, gate: ConsumerGate) -> None:
        self._ledger = ledger
        self._gate = gate
        self._round_trip_s = math.inf
        """The shortest one to the ledger so far."""

    def admit(self, waiting: Waiting, free: int) -> Iterator[tuple[str, Admitted | Rejected]]:
        """Admit what is due, in one act; yield those that wait no longer.

        `free` attempts may begin now. What was yielded has to be submitted, or is rejected. Raises
        RequeueLater where sending is paused: the others belong back in their queue. Raises
        LedgerUnavailable, after which all can be asked for again.
        """
        if ids := waiting.long_in_hand():
            with suppress(LedgerUnavailable):
                self._ledger.in_hand(ids)
        asks = waiting.to_ask(free)
        answers = self._ask(asks)
        is_paused = bool(answers) and answers[-1] == PAUSED
        # The ones before that have been admitted, and have to be submitted.
        yield from waiting.answered(asks, answers[:-1] if is_paused else answers)
        if is_paused:
            self._gate.close()
            raise RequeueLater("sending is paused")

    def wait_for_send_time(self, message_id: str, admitted: Admitted) -> None:
        """Wait for the send time, a few ms; if that is missed, for another.

        The message is `sending` by now: a process that dies in these milliseconds leaves a doubt,
        so an unreachable ledger ends the wait. Raises LeaseExpired if its attempt no longer holds.
        """
        send_at = admitted.departs_at
        for _ in range(MAX_SEND_TIMES):
            if send_at is None or _sleep_until(send_at) <= LATE_S or self._round_trip_s > FAR_S:
                return
            try:
                send_at = self._ledger.depart(message_id, admitted)
            except LedgerUnavailable:
                return

    def _ask(self, asks: Sequence[tuple[str, str]]) -> list[Admission]:
        if not asks:
            return []
        asked_at = time.monotonic()
        try:
            answers = self._ledger.admit_many(asks)
        except SchemaTooNew as error:
            self._gate.shut()
            raise RequeueLater(str(error)) from None
        self._round_trip_s = min(self._round_trip_s, time.monotonic() - asked_at)
        return answers


def set_switch_interval(rate: float) -> None:
    """Switch between Python's threads often enough for the rate of all workers.

    A request whose send time has come must not wait 5 ms, the default, for another's bytecode. To
    switch more often costs a seventh of a batch, and is avoided where nobody could tell.
    """
    sys.setswitchinterval(0.001 if rate < CROWD_PER_S else 0.005)


def _sleep_until(moment: float) -> float:
    """Sleep until a time.monotonic(); return how late it is then."""
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
    return time.monotonic() - moment
