"""Which queues this process takes from at present.

A wake-up is better left in its queue than taken and given back: that keeps the order, and costs
nothing while nothing may be sent. And a lane whose messages already wait here for the rate takes
no more, so that a thread is free when an otp comes. So does the queue of outcomes while several
are being told, as their receivers may be slow.

It only spares work. Whether a message goes is for the ledger to say.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final

from smsq.contract import NOTIFY_QUEUE, Lane
from smsq_worker.domain.states import Lanes

TRUSTED_S: Final = 5.0
"""What the clock last said counts for so long; if the clock is stuck, the queues open."""
WAITING_S: Final = 0.5
"""So many seconds' worth of a lane's messages may wait here."""
FEWEST: Final = 2
TELLING: Final = 1 / 6
"""So many of the threads may tell outcomes."""
BATCHES: Final = 1 / 12
"""So many of the threads may have a batch of a lane, whose messages are called by others."""

_LANE_OF: Final = {lane.queue: lane for lane in Lane}


class RequeueLater(Exception):  # noqa: N818 - not a fault
    """What woke this up stays queued; the wake-up is to be given back to its queue."""

    left: Sequence[str] = ()
    """Of a batch that has begun: those that are still to be woken up."""


class ConsumerGate:
    """Opens and closes the queues of the lanes. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lanes: Lanes = "open"
        self._rate = math.inf
        self._until = 0.0
        self._waiting: Counter[Lane] = Counter()
        self._batches: Counter[Lane] = Counter()
        self._batches_at_most = FEWEST
        self._telling, self._telling_at_most = 0, 1

    def threads(self, count: int) -> None:
        """Say how many threads this process has."""
        self._telling_at_most = max(1, int(count * TELLING))
        self._batches_at_most = max(FEWEST, int(count * BATCHES))

    def set(self, lanes: Lanes, rate: float) -> None:
        """Say how it is now, for all lanes, and what the rate of all workers is."""
        with self._lock:
            self._lanes, self._rate = lanes, rate
            self._until = time.monotonic() + TRUSTED_S

    def close(self) -> None:
        """Note that the ledger lets nothing go."""
        self.set("closed", self._rate)

    def shut(self) -> None:
        """Note that this process may do nothing in the ledger any more."""
        self.set("shut", self._rate)

    @contextmanager
    def waiting(self, lane: Lane, count: int = 1) -> Iterator[Callable[[], None]]:
        """Count messages that wait for their turns while the block runs.

        What it gives is to be called for each that had its turn.
        """
        left = count

        def had_its_turn() -> None:
            nonlocal left
            left -= 1
            with self._lock:
                self._waiting[lane] -= 1

        with self._lock:
            self._waiting[lane] += count
            self._batches[lane] += count > 1
        try:
            yield had_its_turn
        finally:
            with self._lock:
                self._waiting[lane] -= left
                self._batches[lane] -= count > 1

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Count an outcome that is being told meanwhile. Raises RequeueLater where full."""
        with self._lock:
            if self._tells_enough():
                raise RequeueLater("enough outcomes are being told")
            self._telling += 1
        try:
            yield
        finally:
            with self._lock:
                self._telling -= 1

    def open_queues(self, queues: Sequence[str]) -> list[str]:
        """Give those queues from which the next wake-up may be taken, in the same order."""
        with self._lock:
            return [queue for queue in queues if self._is_open(queue)]

    def crowded(self) -> bool:
        """Tell whether a queue is closed only until a message has had its turn."""
        with self._lock:
            return self._tells_enough() or any(self._is_full(lane) for lane in Lane)

    def taken(self, queue: str) -> None:
        """Note that a wake-up was taken; one is enough to find out whether a pause is over."""
        with self._lock:
            if self._lanes == "probe" and queue in _LANE_OF:
                self._lanes = "closed"

    def _is_open(self, queue: str) -> bool:
        lanes = self._lanes if time.monotonic() < self._until else "open"
        lane = _LANE_OF.get(queue)
        if lane is None:
            return lanes != "shut" and (queue != NOTIFY_QUEUE or not self._tells_enough())
        return lanes not in {"closed", "shut"} and not self._is_full(lane)

    def _tells_enough(self) -> bool:
        return self._telling >= self._telling_at_most

    def _is_full(self, lane: Lane) -> bool:
        return (
            self._waiting[lane] >= max(FEWEST, self._rate * WAITING_S)
            or self._batches[lane] >= self._batches_at_most
        )


GATE: Final = ConsumerGate()
"""This process' own: kombu makes the channels that ask it, and hands nothing on to them."""
