"""Which queues this process takes wake-ups from at present.

A wake-up is better left in its queue than taken and given back: that keeps the order, and costs
nothing while sending is stopped. A lane is left out while enough of its messages wait here for
their slots, so that a thread is free when an otp comes; so is the queue of callbacks while enough
of them are being dispatched, as their endpoints may be slow.

The gate only spares work. Whether a message is sent is for the ledger to decide.
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
"""How long the scheduler's last word counts; if the scheduler is stuck, the queues open."""
WAITING_S: Final = 0.5
"""At most this many seconds' worth of a lane's messages wait here."""
MIN_WAITING: Final = 2
MAX_CALLBACKS: Final = 1 / 6
"""The share of the threads that may dispatch callbacks."""
MAX_BATCHES: Final = 1 / 12
"""The share of the threads that may hold a batch of a lane, which other threads submit."""

_LANE_OF: Final = {lane.queue: lane for lane in Lane}


class RequeueLater(Exception):  # noqa: N818 - not an error
    """The message stays queued; its wake-up belongs back in the queue."""

    left: Sequence[str] = ()
    """Of a batch that has begun: the ids that are still to be woken up."""


class ConsumerGate:
    """Opens and closes the queues of a process; at first all are open. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lanes: Lanes = "open"
        self._rate = math.inf
        self._until = 0.0
        self._waiting: Counter[Lane] = Counter()
        self._batches: Counter[Lane] = Counter()
        self._max_batches = MIN_WAITING
        self._callbacks, self._max_callbacks = 0, 1

    def set_threads(self, count: int) -> None:
        """Set how many threads this process has."""
        self._max_callbacks = max(1, int(count * MAX_CALLBACKS))
        self._max_batches = max(MIN_WAITING, int(count * MAX_BATCHES))

    def set(self, lanes: Lanes, rate: float) -> None:
        """Set the state of all lanes, and the rate of all workers together."""
        with self._lock:
            self._lanes, self._rate = lanes, rate
            self._until = time.monotonic() + TRUSTED_S

    def close(self) -> None:
        """Close the lanes: the ledger admits nothing."""
        self.set("closed", self._rate)

    def shut(self) -> None:
        """Close everything: this process may not touch the ledger any more."""
        self.set("shut", self._rate)

    @contextmanager
    def waiting(self, lane: Lane, count: int = 1) -> Iterator[Callable[[], None]]:
        """Count messages that wait for their slots while the block runs.

        Yields a function to call for each message that no longer waits.
        """
        left = count

        def done() -> None:
            nonlocal left
            left -= 1
            with self._lock:
                self._waiting[lane] -= 1

        with self._lock:
            self._waiting[lane] += count
            self._batches[lane] += count > 1
        try:
            yield done
        finally:
            with self._lock:
                self._waiting[lane] -= left
                self._batches[lane] -= count > 1

    @contextmanager
    def dispatching(self) -> Iterator[None]:
        """Count a callback that is dispatched while the block runs. Raises RequeueLater if full."""
        with self._lock:
            if self._callbacks_are_full():
                raise RequeueLater("enough callbacks are being dispatched")
            self._callbacks += 1
        try:
            yield
        finally:
            with self._lock:
                self._callbacks -= 1

    def open_queues(self, queues: Sequence[str]) -> list[str]:
        """Return the queues from which the next wake-up may be taken, in the same order."""
        with self._lock:
            return [queue for queue in queues if self._is_open(queue)]

    def crowded(self) -> bool:
        """Return whether a queue is closed only until a message of it no longer waits here."""
        with self._lock:
            return self._callbacks_are_full() or any(self._is_full(lane) for lane in Lane)

    def taken(self, queue: str) -> None:
        """Note that a wake-up was taken; one is enough to find out whether a pause is over."""
        with self._lock:
            if self._lanes == "probe" and queue in _LANE_OF:
                self._lanes = "closed"

    def _is_open(self, queue: str) -> bool:
        lanes = self._lanes if time.monotonic() < self._until else "open"
        lane = _LANE_OF.get(queue)
        if lane is None:
            return lanes != "shut" and (queue != NOTIFY_QUEUE or not self._callbacks_are_full())
        return lanes not in {"closed", "shut"} and not self._is_full(lane)

    def _callbacks_are_full(self) -> bool:
        return self._callbacks >= self._max_callbacks

    def _is_full(self, lane: Lane) -> bool:
        return (
            self._waiting[lane] >= max(MIN_WAITING, self._rate * WAITING_S)
            or self._batches[lane] >= self._max_batches
        )
