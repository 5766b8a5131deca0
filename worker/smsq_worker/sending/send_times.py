"""Waiting for the send time of an admitted message, which keeps the one rate of all workers exact.

It is some ms after the admission; whoever misses it asks the ledger for another.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Final

from smsq.errors import LedgerUnavailable
from smsq_worker.ledger import Admitted, Ledger

LATE_S: Final = 0.003
"""On a busy machine a thread may wake up late; a request later than this would crowd others."""
MAX_SEND_TIMES: Final = 5
FAR_S: Final = 0.005
"""A ledger further away than that cannot make a send time exact."""
CROWD_PER_S: Final = 500
"""At such a rate requests follow each other so closely that a few ms do not matter."""


class SendTimes:
    """Keeps send times. Threads share it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._round_trip_s = math.inf
        """The shortest one to the ledger so far."""

    def note_round_trip(self, seconds: float) -> None:
        """Note how long the ledger took to answer."""
        self._round_trip_s = min(self._round_trip_s, seconds)

    def wait(self, message_id: str, admitted: Admitted) -> None:
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
