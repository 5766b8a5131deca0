"""Sending many messages of one wake-up: admitted, submitted and recorded in groups.

Each message keeps its own state in the ledger; a batch only makes it cheaper. If its worker dies,
each message is recovered on its own.
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

MAX_THREADS: Final = 128
"""For the attempts of a process' batches: 1,280 a second of 100 ms each."""
GATHER_S: Final = 0.01
"""Results that come within this time are recorded in one act."""

Results = SimpleQueue[AttemptResult | None]


class SubmitThreads:
    """Threads that submit messages, for all batches of a process.

    Not concurrent.futures: at this rate a Future's locks cost as much as asking the ledger.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._jobs: SimpleQueue[tuple[str, Lane, Admitted, Results]] = SimpleQueue()
        self._lock = Lock()
        self._threads = self._busy = 0

    def free(self) -> int:
        """Return how many attempts may begin now."""
        return MAX_THREADS - self._busy

    def begin(self, message_id: str, lane: Lane, admitted: Admitted, results: Results) -> None:
        """Submit a message and put the result into `results`; None where that failed."""
        with self._lock:
            self._busy += 1
            if self._threads < min(MAX_THREADS, self._busy):
                self._add_thread()
            can_begin = self._threads > 0
            self._busy -= not can_begin
        if can_begin:
            self._jobs.put((message_id, lane, admitted, results))
        else:
            results.put(None)

    def _add_thread(self) -> None:
        try:
            Thread(target=self._run, name="smsq-submit", daemon=True).start()
        except RuntimeError as error:
            log.critical("no more than %d threads can submit messages: %s", self._threads, error)
        else:
            self._threads += 1

    def _run(self) -> None:
        while True:
            message_id, lane, admitted, results = self._jobs.get()
            result = None
            try:
                result = self._sender.submit(message_id, lane, admitted)
            except Exception:
                log.exception("%s is left to its lease", message_id, extra=about(id=message_id))
            with self._lock:
                self._busy -= 1
            results.put(result)


class BatchSender:
    """Sends batches. Threads share it."""

    def __init__(self, rate_limiter: RateLimiter, sender: Sender) -> None:
        self._rate_limiter = rate_limiter
        self._sender = sender
        self._threads = SubmitThreads(sender)

    def send(self, ids: Sequence[str], lane: Lane) -> str:
        """Send messages in their slots, those that are admitted; return a summary in words.

        Raises RequeueLater where the wake-up belongs back in the queue, for those still queued.
        """
        # Anybody can write to a queue.
        if not isinstance(ids, list) or not all(map(is_id, ids)):
            log.warning("a batch that is no list of ids was dropped")
            return "dropped"
        batch = _Batch(self._sender, self._threads, lane)
        left = dict.fromkeys(ids)
        try:
            for message_id, admission in self._rate_limiter.admit_many(
                ids, lane, free=self._threads.free, sleep=batch.record
            ):
                left.pop(message_id, None)
                batch.submit(message_id, admission)
        except RequeueLater as why:
            why.left = list(left)
            raise
        finally:
            batch.finish()
        if batch.counts["unknown"]:
            log.warning("%d of a batch are not known to the ledger", batch.counts["unknown"])
        summary = ", ".join(f"{count} {state}" for state, count in sorted(batch.counts.items()))
        log.info("batch of %d: %s", len(ids), summary, extra=about(lane=lane))
        return summary


class _Batch:
    """One batch in progress, used by one thread."""

    def __init__(self, sender: Sender, threads: SubmitThreads, lane: Lane) -> None:
        self._sender = sender
        self._threads = threads
        self._lane = lane
        self._results: Results = SimpleQueue()
        self._in_flight = 0
        self.counts: Counter[str] = Counter()
        """How many messages are in each state now, or were rejected for what reason."""

    def submit(self, message_id: str, admission: Admitted | Rejected) -> None:
        """Begin a message's attempt, if it was admitted."""
        if isinstance(admission, Rejected):
            self.counts[admission.why] += 1
            return
        reached("after admit")
        self._in_flight += 1
        self._threads.begin(message_id, self._lane, admission, self._results)

    def record(self, timeout_s: float | None) -> None:
        """Record the results that have come; if none has, wait for one, and briefly for more."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        came: list[AttemptResult | None] = []
        with suppress(Empty):
            came.append(self._results.get(timeout=timeout_s))
            if len(came) < self._in_flight:
                time.sleep(max(0.0, min(GATHER_S, end - time.monotonic())))
            while True:
                came.append(self._results.get_nowait())
        self._in_flight -= len(came)
        if results := [result for result in came if result]:
            self.counts.update(self._sender.record(results, self._lane, log_good=logging.DEBUG))

    def finish(self) -> None:
        """Wait for all attempts that were begun."""
        while self._in_flight:
            self.record(None)
