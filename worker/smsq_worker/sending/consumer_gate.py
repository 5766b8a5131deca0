"""Which queues this process takes wake-ups from at present.

A wake-up is better left in its queue than taken and given back: that keeps the order, and costs
nothing while sending is stopped. A lane is left out while enough of its messages wait here for
their slots: the others may be sent by another worker, and whoever dies takes few along. So is the
queue of callbacks while enough of them are being dispatched, as their endpoints may be slow.

The gate only spares work. Whether a message is sent is for the ledger to decide.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Lock
from typing import Final
from weakref import WeakSet

from smsq.contract import NOTIFY_QUEUE, Lane
from smsq_worker.domain.states import Lanes

TRUSTED_S: Final = 5.0
"""How long the scheduler's last word counts; if the scheduler is stuck, the queues open."""
WAITING_S: Final = 0.5
"""At most this many seconds' worth of a lane's messages wait here."""
MIN_WAITING: Final = 2
MAX_WAITING: Final = 256
ENOUGH: Final = 0.5
"""A lane that was full is open again when so much of it waits: few at a time would cost more."""
LEFT_S: Final = 3.0
"""For how long a probe is left to other workers; theirs look for one every 0.5 s."""
MAX_TAKEN: Final = 25
"""At most this many wake-ups are taken at once."""
POLL_S: Final = 2.0
"""Longer than one request for the next wake-ups takes."""
MAX_CALLBACKS: Final = 1 / 6
"""The share of the threads that may dispatch callbacks."""

_LANE_OF: Final = {lane.queue: lane for lane in Lane}


class RequeueLater(Exception):  # noqa: N818 - not an error
    """The message stays queued; its wake-up belongs back in the queue."""


class ConsumerGate:
    """Opens and closes the queues of a process; at first all are open. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._lanes: Lanes = "open"
        self._rate = math.inf
        self._closed: frozenset[Lane] = frozenset()
        self._until = self._rests_until = 0.0
        self._probe_since = math.inf
        self._is_probed, self._probes_at_once = False, 1
        """Whether the lanes are closed as a probe was taken, and how many wake-ups are at once."""
        self.leaves_probes = False
        """Whether this process' last call came to nothing: another's may tell more. Where the same
        one took each probe, one broken worker would keep all others paused."""
        self.is_stopped = False
        self._no_poll = Event()
        self._no_poll.set()
        self._waiting: Counter[Lane] = Counter()
        self._full: set[Lane] = set()
        self._batches: set[Lane] = set()
        """Lanes whose last wake-up was a batch: of these one at a time is enough."""
        self._callbacks, self._max_callbacks = 0, 1
        self.pool = WeakSet[object]()
        """What is in hand of other tasks: reports and callbacks."""
        self._max_pool = MIN_WAITING
        self.loop_at = math.inf
        """When the loop that consumes came round, by time.monotonic(); math.inf if it ended."""

    def loop_goes(self) -> None:
        """Note that the loop that consumes has come round, as it does within 2 s."""
        self.loop_at = time.monotonic()

    def loop_ends(self, *_: object) -> None:
        """Note that the loop has ended: its connection was lost, and another is sought."""
        self.loop_at = math.inf

    def set_threads(self, count: int) -> None:
        """Set how many threads this process has."""
        self._max_callbacks = max(1, int(count * MAX_CALLBACKS))
        self._max_pool = max(MIN_WAITING, count // 2)

    def callbacks_at_once(self) -> int:
        """Return how many callbacks may be dispatched at once."""
        return self._max_callbacks

    def set(self, lanes: Lanes, rate: float, closed: frozenset[Lane] = frozenset()) -> None:
        """Set the state of all lanes, and the rate of all workers together.

        `closed` are closed in any state.
        """
        with self._lock:
            self._is_probed = False
            if lanes != "probe":
                self._probe_since, self._probes_at_once = math.inf, 1
            elif self._probe_since == math.inf:
                self._probe_since = time.monotonic()
            self._lanes, self._rate, self._closed = lanes, rate, closed
            self._until = time.monotonic() + TRUSTED_S

    def stop(self) -> None:
        """Close everything for good: this process is about to end."""
        self.is_stopped = True

    def polls(self, is_polling: bool) -> None:
        """Note that the server is asked for the next wake-ups, or has answered."""
        (self._no_poll.clear if is_polling else self._no_poll.set)()

    def wait_for_poll(self) -> None:
        """Wait, after `stop`, until the server is not asked any more; not for ever.

        It would give to this process what others are to take.
        """
        self._no_poll.wait(POLL_S)

    def close(self) -> None:
        """Close the lanes: the ledger admits nothing."""
        self.set("closed", self._rate)

    def shut(self) -> None:
        """Close everything: this process may not touch the ledger any more."""
        self.set("shut", self._rate)

    def rest(self, seconds: float) -> None:
        """Close the lanes for so long, whatever the scheduler says; 0 ends that."""
        self._rests_until = time.monotonic() + seconds

    @property
    def is_resting(self) -> bool:
        """Return whether `rest` has closed the lanes."""
        return time.monotonic() < self._rests_until

    def add(self, lane: Lane, count: int) -> None:
        """Count messages that wait for their slots."""
        with self._lock:
            (self._batches.add if count > 1 else self._batches.discard)(lane)
            self._waiting[lane] += count
            if self._waiting[lane] >= self._most():
                self._full.add(lane)

    def remove(self, lane: Lane, count: int) -> None:
        """Count messages that wait no longer."""
        with self._lock:
            self._waiting[lane] -= count
            if self._waiting[lane] <= self._most() * ENOUGH:
                self._full.discard(lane)

    @contextmanager
    def dispatching(self) -> Iterator[None]:
        """Count a callback that is dispatched while the block runs.

        Raises RequeueLater if enough are, or the process is about to end.
        """
        with self._lock:
            if self.is_stopped:
                raise RequeueLater("the worker is stopping")
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
            return [q for q in queues if self._is_open(q) and not self.is_stopped]

    def room(self, queues: Sequence[str]) -> int:
        """Return how many wake-ups of open queues may be taken at once, at least one."""
        with self._lock:
            lanes = [_LANE_OF[queue] for queue in queues if queue in _LANE_OF]
            if not self._batches.isdisjoint(lanes):
                return 1
            if self._lanes == "probe":
                return self._probes_at_once
            left = (int(self._most()) - self._waiting[lane] for lane in lanes)
            return max(1, min((MAX_TAKEN, *left)))

    def crowded(self) -> bool:
        """Return whether a queue is closed only until a message of it no longer waits here."""
        with self._lock:
            is_full = self._callbacks_are_full() or self._pool_is_full() or bool(self._full)
            return is_full or self._is_probed

    def taken(self, queue: str) -> None:
        """Note that wake-ups were taken; one is enough to find out whether a pause is over."""
        with self._lock:
            if self._lanes == "probe" and queue in _LANE_OF:
                self._lanes, self._is_probed = "closed", True

    def takes_more(self, queue: str) -> bool:
        """Return whether another of the wake-ups may be delivered that were taken together."""
        with self._lock:
            is_probing = self._is_probed and _LANE_OF.get(queue) not in self._full
            return not self.is_stopped and (is_probing or self._is_open(queue))

    def was_no_probe(self) -> None:
        """Note that nothing of what was taken is to be sent: open the lanes for the next at once.

        After an outage thousands may have expired, or been cancelled, whose wake-ups still stand in
        the queues. One at each word of the scheduler they would keep out what could find out.
        """
        with self._lock:
            if self._is_probed:
                self._lanes, self._is_probed = "probe", False
                self._probes_at_once = min(2 * self._probes_at_once, MAX_TAKEN)

    def _is_open(self, queue: str) -> bool:
        is_trusted = time.monotonic() < self._until
        lanes = self._lanes if is_trusted else "open"
        lane = _LANE_OF.get(queue)
        if lane is None:
            is_full = queue == NOTIFY_QUEUE and self._callbacks_are_full()
            return lanes != "shut" and not (is_full or self._pool_is_full())
        is_closed = (is_trusted and lane in self._closed) or self.is_resting
        if lanes == "probe" and self.leaves_probes:
            is_closed = is_closed or time.monotonic() < self._probe_since + LEFT_S
        return not is_closed and lanes not in {"closed", "shut"} and lane not in self._full

    def _callbacks_are_full(self) -> bool:
        return self._callbacks >= self._max_callbacks

    def _pool_is_full(self) -> bool:
        return len(self.pool) >= self._max_pool

    def _most(self) -> float:
        return max(MIN_WAITING, min(MAX_WAITING, self._rate * WAITING_S))
