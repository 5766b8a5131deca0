"""Many messages of one wake-up: admitted, called and written down in groups. It knows no Celery.

Each message goes its own way through the ledger, and a batch only makes it cheaper: of one whose
worker dies nothing is left to be taken up but its messages.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from smsq.contract import Lane, is_id
from smsq.failpoints import reached
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admitted, AttemptResult, Rejected
from smsq_worker.sending.consumer_gate import RequeueLater
from smsq_worker.sending.rate_limiter import RateLimiter
from smsq_worker.sending.sender import Sender

log = logging.getLogger(__name__)

CALLS: Final = 128
"""So many calls of batches may be under way in a process: 1,280 a second of 100 ms each."""
GATHER_S: Final = 0.01
"""Answers that come within this time are written down in one act."""

Done = SimpleQueue[AttemptResult | None]


class Calls:
    """Calls the gateway in threads of its own, for all batches of a process.

    Not concurrent.futures: at this rate a Future's locks cost as much as asking the ledger.
    """

    def __init__(self, delivery: Sender) -> None:
        self._delivery = delivery
        self._jobs: SimpleQueue[tuple[str, Lane, Admitted, Done]] = SimpleQueue()
        self._lock = Lock()
        self._threads = self._under_way = 0

    def room(self) -> int:
        """Say how many calls may begin now."""
        return CALLS - self._under_way

    def begin(self, message_id: str, lane: Lane, go: Admitted, done: Done) -> None:
        """Call for a message, and put what it came to into `done`; None where that failed."""
        with self._lock:
            self._under_way += 1
            if self._threads < min(CALLS, self._under_way):
                self._add_thread()
            can_begin = self._threads > 0
            self._under_way -= not can_begin
        if can_begin:
            self._jobs.put((message_id, lane, go, done))
        else:  # as where a call failed
            done.put(None)

    def _add_thread(self) -> None:
        try:
            Thread(target=self._run, name="smsq-call", daemon=True).start()
        except RuntimeError as error:
            log.critical(
                "%d threads make calls, and there cannot be more: %s", self._threads, error
            )
        else:
            self._threads += 1

    def _run(self) -> None:
        while True:
            message_id, lane, go, done = self._jobs.get()
            came_to = None
            try:
                came_to = self._delivery.call(message_id, lane, go)
            except Exception:
                log.exception("%s is left to its lease", message_id, extra=about(id=message_id))
            with self._lock:
                self._under_way -= 1
            done.put(came_to)


class BatchSender:
    """Sends batches. Threads share it."""

    def __init__(self, turnstile: RateLimiter, delivery: Sender) -> None:
        self._turnstile = turnstile
        self._delivery = delivery
        self._calls = Calls(delivery)

    def deliver(self, ids: Sequence[str], lane: Lane) -> str:
        """Send messages in their turns, those that may go; say in words what came of them.

        Raises RequeueLater where the wake-up is to be given back for those that are still queued.
        """
        # Anybody can write to a queue.
        if not isinstance(ids, list) or not all(map(is_id, ids)):
            log.warning("a batch that is no list of ids was dropped")
            return "dropped"
        run = _Run(self._delivery, self._calls, lane)
        left = dict.fromkeys(ids)
        try:
            for message_id, admission in self._turnstile.admit_many(
                ids, lane, room=self._calls.room, sleep=run.settle
            ):
                left.pop(message_id, None)
                run.take(message_id, admission)
        except RequeueLater as why:
            why.left = list(left)
            raise
        finally:
            run.finish()
        if run.told["unknown"]:
            log.warning("%d of a batch are not known to the ledger", run.told["unknown"])
        told = ", ".join(f"{count} {what}" for what, count in sorted(run.told.items()))
        log.info("batch of %d: %s", len(ids), told, extra=about(lane=lane))
        return told


class _Run:
    """One batch under way, in the hands of one thread."""

    def __init__(self, delivery: Sender, calls: Calls, lane: Lane) -> None:
        self._delivery = delivery
        self._calls = calls
        self._lane = lane
        self._done: Done = SimpleQueue()
        self._under_way = 0
        self.told: Counter[str] = Counter()

    def take(self, message_id: str, admission: Admitted | Rejected) -> None:
        """Begin a message's call, if it may go."""
        if isinstance(admission, Rejected):
            self.told[admission.why] += 1
            return
        reached("after admit")
        self._under_way += 1
        self._calls.begin(message_id, self._lane, admission, self._done)

    def settle(self, timeout_s: float | None) -> None:
        """Write down what has come; where nothing has, wait for it, and a little for more."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        came: list[AttemptResult | None] = []
        with suppress(Empty):
            came.append(self._done.get(timeout=timeout_s))
            if len(came) < self._under_way:
                time.sleep(max(0.0, min(GATHER_S, end - time.monotonic())))
            while True:
                came.append(self._done.get_nowait())
        self._under_way -= len(came)
        if calls := [one for one in came if one]:
            self.told.update(self._delivery.settle(calls, self._lane, log_good=logging.DEBUG))

    def finish(self) -> None:
        """Wait for all calls that were begun."""
        while self._under_way:
            self.settle(None)
