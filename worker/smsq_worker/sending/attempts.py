"""The threads that send admitted messages, and the one that records what came of them.

They are for all lanes of a process. Where one message alone is under way, the thread that submitted
it records it, too: to hand it on would cost more than the act.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Condition, Lock, Thread
from typing import Final

from smsq.contract import Lane
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admitted, AttemptResult, Rejected
from smsq_worker.sending.wakeup import WakeUp

log = logging.getLogger(__name__)

RESERVED: Final = 1 / 16
"""The share of the attempts that is kept for otps, if a slow gateway holds all others: of a limit
of 1 another one."""
GATHER_S: Final = 0.01
"""Results that come within this time are recorded in one act, where many are under way."""
MANY: Final = 16
"""Fewer attempts would end too far apart for that."""


@dataclass(slots=True)
class Ended:
    """A message whose attempt ended, or that was rejected and needs none."""

    wakeup: WakeUp
    message_id: str
    result: AttemptResult | Rejected | None
    """None where submitting failed in an unexpected way: it is left to its lease."""


@dataclass(eq=False, repr=False)
class Attempts:
    """Sends messages, at most `limit` at once: more begin only after others have ended.

    A few more do where lanes begin some at the same moment: what is admitted waits for no thread.

    Not concurrent.futures: at this rate a Future's locks cost as much as asking the ledger.
    """

    send: Callable[[WakeUp, str, Admitted], None]
    """Ends with `record_and_complete`."""
    finish: Callable[[Sequence[Ended]], None]
    """Does that for what has ended, as much as there is, by one thread at a time."""
    limit: int

    def __post_init__(self) -> None:
        self._jobs: SimpleQueue[tuple[WakeUp, str, Admitted]] = SimpleQueue()
        self._results: SimpleQueue[Ended] = SimpleQueue()
        self._changed = Condition()
        self._threads = 0
        self._is_recording = False
        self._recording = Lock()
        self._is_recorded_here = False
        """Whether a thread that submits is recording, and takes no other job meanwhile."""
        self._failures = FailureLog(log, "recording results")
        self.round_began = math.inf
        """Of whoever records, by time.monotonic(); math.inf while there is nothing."""
        # Threads of attempts that are many change none of these: they would queue up for the lock.
        self._begun = self._begun_otps = self._rejected = 0
        self._ended = self._ended_otps = self._settled = 0

    def start(self) -> None:
        """Start the thread that records, unless it runs."""
        if self._is_recording:
            return
        with self._changed:
            if not self._is_recording:
                Thread(target=self._record_forever, name="smsq-record", daemon=True).start()
                self._is_recording = True

    def free(self, lane: Lane) -> int:
        """Return how many attempts of a lane may begin now."""
        kept = max(1, int(self.limit * RESERVED))
        most = max(self.limit, kept + 1)
        if lane is not Lane.OTP:
            return most - kept - self._busy()
        # The other lanes may have begun too many, and a silent gateway may hold them for long.
        return max(most - self._busy(), kept - (self._begun_otps - self._ended_otps))

    def begin(self, wakeup: WakeUp, message_id: str, admitted: Admitted) -> None:
        """Send a message, by a thread of its own."""
        with self._changed:
            self._begun += 1
            self._begun_otps += wakeup.lane is Lane.OTP
            if self._threads < self._busy() + self._is_recorded_here:
                self._add_thread()
        if self._threads:
            self._jobs.put((wakeup, message_id, admitted))
        else:
            self._results.put(Ended(wakeup, message_id, None))

    def reject(self, wakeup: WakeUp, message_id: str, rejected: Rejected) -> None:
        """Finish a message that needs no attempt, among the others."""
        with self._changed:
            self._rejected += 1
        self._results.put(Ended(wakeup, message_id, rejected))

    def record_and_complete(self, ended: Ended) -> None:
        """Record a result and complete its wake-up: at once where it is alone, else with others."""
        if self._busy() == 1 and self._recording.acquire(blocking=False):
            self._is_recorded_here = True
            try:
                self._end([ended])
            finally:
                self._is_recorded_here = False
                self._recording.release()
        else:
            self._results.put(ended)

    def wait_for_all(self) -> None:
        """Wait until all that has begun is done with."""
        with self._changed:
            self._changed.wait_for(lambda: self._settled == self._begun + self._rejected)

    def _busy(self) -> int:
        return self._begun - self._ended

    def _add_thread(self) -> None:
        try:
            Thread(target=self._run, name="smsq-submit", daemon=True).start()
        except RuntimeError as error:
            log.critical("no more than %d threads can submit messages: %s", self._threads, error)
        else:
            self._threads += 1

    def _run(self) -> None:
        while True:
            wakeup, message_id, admitted = self._jobs.get()
            try:
                self.send(wakeup, message_id, admitted)
            except Exception:
                log.exception("%s is left to its lease", message_id, extra=about(id=message_id))
                self._results.put(Ended(wakeup, message_id, None))

    def _record_forever(self) -> None:
        while True:
            ended = self._wait_for_some()
            with self._recording:
                self._end(ended)

    def _end(self, ended: Sequence[Ended]) -> None:
        lanes = [one.wakeup.lane for one in ended if not isinstance(one.result, Rejected)]
        self._ended_otps += lanes.count(Lane.OTP)
        self._ended += len(lanes)
        self.round_began = time.monotonic()
        try:
            self.finish(ended)
        except Exception as error:  # noqa: BLE001 - the next results have to be recorded
            self._failures.fails(error)
        finally:
            self.round_began = math.inf
            with self._changed:
                self._settled += len(ended)
                self._changed.notify_all()

    def _wait_for_some(self) -> list[Ended]:
        """Wait until some have ended, and return all that have."""
        came = [self._results.get()]
        if self._busy() >= MANY:
            time.sleep(GATHER_S)
        with suppress(Empty):
            while True:
                came.append(self._results.get_nowait())
        return came
