"""Which queues this process takes from at present.

A wake-up is better left in its queue than taken and given back: that keeps the order, and costs
nothing while nothing may be sent. And a lane whose messages already wait here for the rate takes
no more, so that a thread is free when an otp comes.

It only spares work. Whether a message goes is for the ledger to say.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Final

from smsq.contract import Lane
from smsq_worker.states import Lanes

TRUSTED_S: Final = 5.0
"""What the clock last said counts for so long; if the clock is stuck, the queues open."""
WAITING_S: Final = 0.5
"""So many seconds' worth of a lane's messages may wait here."""
FEWEST: Final = 2

_LANE_OF: Final = {lane.queue: lane for lane in Lane}


class Gate:
    """Opens and closes the queues of the lanes. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lanes: Lanes = "open"
        self._rate = math.inf
        self._until = 0.0
        self._waiting: Counter[Lane] = Counter()

    def set(self, lanes: Lanes, rate: float) -> None:
        """Say how it is now, for all lanes, and what the rate of all workers is."""
        with self._lock:
            self._lanes, self._rate = lanes, rate
            self._until = time.monotonic() + TRUSTED_S

    def close(self) -> None:
        """Note that the ledger lets nothing go."""
        self.set("closed", self._rate)

    @contextmanager
    def waiting(self, lane: Lane) -> Iterator[None]:
        """Count a message that waits for its turn while the block runs."""
        with self._lock:
            self._waiting[lane] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[lane] -= 1

    def open_queues(self, queues: Sequence[str]) -> list[str]:
        """Give those queues from which the next wake-up may be taken, in the same order."""
        with self._lock:
            return [queue for queue in queues if self._is_open(_LANE_OF.get(queue))]

    def crowded(self) -> bool:
        """Tell whether a queue is closed only until a message has had its turn."""
        with self._lock:
            return any(self._is_full(lane) for lane in Lane)

    def taken(self, queue: str) -> None:
        """Note that a wake-up was taken; one is enough to find out whether a pause is over."""
        with self._lock:
            if self._lanes == "probe" and queue in _LANE_OF:
                self._lanes = "closed"

    def _is_open(self, lane: Lane | None) -> bool:
        if lane is None:
            return True
        stopped = self._lanes == "closed" and time.monotonic() < self._until
        return not stopped and not self._is_full(lane)

    def _is_full(self, lane: Lane) -> bool:
        return self._waiting[lane] >= max(FEWEST, self._rate * WAITING_S)


GATE: Final = Gate()
"""This process' own: kombu makes the channels that ask it, and hands nothing on to them."""
