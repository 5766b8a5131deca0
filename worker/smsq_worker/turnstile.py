"""Waiting for a turn under the one rate of all workers. It knows no Celery.

Of each lane one thread asks the ledger at a time, until a turn is booked for its message; the
others stand in line behind it. Whoever dies while it waits leaves nothing in doubt: no call had
begun.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Final

from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.killpoint import reached
from smsq_worker.gate import Gate
from smsq_worker.ledger import Go, Ledger, Stay, Wait

WAIT_AT_MOST_S: Final = 20.0
"""Then the wake-up is given back: with a call it stays well within the visibility timeout."""
ASK_AGAIN_S: Final = 0.025
"""Asking more often would book no more turns: a lane may book further ahead than that."""
ASK_AT_LEAST_S: Final = 1.0
"""The rate may have been raised meanwhile."""
LATE_S: Final = 0.003
"""On a busy machine a thread may wake up late; later than that a call would crowd others."""
DEPARTURES: Final = 5
FAR_S: Final = 0.005
"""A ledger further away than that cannot help to be exact."""


class NotNow(Exception):  # noqa: N818 - not a fault
    """The message stays queued; its wake-up is to be given back to the queue."""


class Turnstile:
    """Lets messages go, each in its turn."""

    def __init__(self, ledger: Ledger, gate: Gate, stopping: Event) -> None:
        self._ledger = ledger
        self._gate = gate
        self._stopping = stopping
        self._heads = {lane: Lock() for lane in Lane}
        self._nearest_s = math.inf
        """The shortest way to the ledger and back."""

    def admit(self, message_id: str, lane: Lane) -> Go | Stay:
        """Wait for a message's turn, if it may go at all.

        Raises NotNow where sending is paused, the worker is stopping or the wait is too long.
        """
        deadline = time.monotonic() + WAIT_AT_MOST_S
        with self._gate.waiting(lane):
            with self._head(lane, deadline):
                answer = self._ask(message_id)
                while isinstance(answer, Wait) and not answer.booked:
                    self._sleep(min(max(answer.seconds, ASK_AGAIN_S), ASK_AT_LEAST_S), deadline)
                    answer = self._ask(message_id)
            turn = ""
            while isinstance(answer, Wait):
                turn = answer.turn or turn
                self._sleep(answer.seconds, deadline)
                answer = self._ask(message_id, turn)
        if isinstance(answer, Stay) and answer.why == "paused":
            self._gate.close()
            raise NotNow("sending is paused")
        return answer

    def depart(self, message_id: str, go: Go) -> None:
        """Wait for the time of departure, a few ms; where that is missed, for another.

        The message is `sending` by now: who dies in these milliseconds leaves a doubt. So this is
        no place to insist.
        """
        moment = go.departs_at
        for _ in range(DEPARTURES):
            if moment is None or _sleep_until(moment) <= LATE_S or self._nearest_s > FAR_S:
                return
            try:
                moment = self._ledger.depart(message_id, go.attempt)
            except LedgerUnavailable:
                return

    def _ask(self, message_id: str, turn: str = "") -> Go | Wait | Stay:
        asked_at = time.monotonic()
        answer = self._ledger.admit(message_id, turn=turn)
        self._nearest_s = min(self._nearest_s, time.monotonic() - asked_at)
        return answer

    @contextmanager
    def _head(self, lane: Lane, deadline: float) -> Iterator[None]:
        """Stand in the lane's line until it is our turn to ask."""
        head = self._heads[lane]
        if not head.acquire(timeout=max(0, deadline - time.monotonic())):
            raise NotNow("the line is long")
        try:
            yield
        finally:
            head.release()

    def _sleep(self, seconds: float, deadline: float) -> None:
        reached("while waiting")
        left = deadline - time.monotonic()
        if self._stopping.wait(min(seconds, left)):
            raise NotNow("the worker is stopping")
        if seconds > left:
            raise NotNow("the rate leaves no turn soon")


def _sleep_until(moment: float) -> float:
    """Sleep; give how late it is then."""
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
    return time.monotonic() - moment
