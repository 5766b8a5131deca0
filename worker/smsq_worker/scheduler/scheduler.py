"""What must happen later: retries, schedules, dead workers' calls, lost wake-ups, probes.

Every worker runs a clock and none is special. The ledger does what is due in one act; the clock
publishes the wake-ups that follow. If it dies in between, the timer runs out again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from threading import Event
from typing import Final, Protocol

from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.domain.backoff import Backoff
from smsq_worker.infra.memory import MemoryWatch
from smsq_worker.infra.trouble import FailureLog
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.errors import LedgerFault, SchemaTooNew
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.rate_limiter import keep_time
from smsq_worker.sending.result_recorder import ResultRecorder

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""The longest sleep: a timer set meanwhile by another process is not noticed earlier."""
SLICE_S: Final = 0.02
"""The sleep where more is due, which comes in slices so far apart."""
REST_S: Final = 0.05
"""The shortest sleep otherwise, or each timer would be a look of its own. Slices that follow one
another within it do nothing besides."""
REPORT_AGAIN_S: Final = 30.0
"""When a report that was taken in but not reconciled is woken up again."""
NOTICES_AT_ONCE: Final = 200
"""So many outcomes' wake-ups may be in their queue."""


class Queues(Protocol):
    """What the clock needs of the broker."""

    def oldest(self) -> Mapping[Lane, Sequence[str]]:
        """Return the ids of the oldest wake-up in each lane's queue, none where it is empty."""

    def is_full(self) -> bool:
        """Return whether the broker is at its memory limit, where it takes no wake-up."""

    def notices(self) -> int:
        """Count the wake-ups that wait in the queue of outcomes."""

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        """Publish the wake-ups of messages of one lane."""

    def publish_report(self, mid: str, stat: str) -> None:
        """Publish a report's."""

    def publish_notice(self, name: str) -> None:
        """Publish an outcome's."""


class Scheduler:
    """Runs out the ledger's timers."""

    def __init__(
        self,
        ledger: Ledger,
        notices: Callbacks,
        backoff: Backoff,
        recorder: ResultRecorder,
        *,
        gate: ConsumerGate,
        queues: Queues,
    ) -> None:
        self._ledger = ledger
        self._notices = notices
        self._backoff = backoff
        self._recorder = recorder
        self._gate = gate
        self._queues = queues
        self._slices_until = 0.0
        self._away: tuple[type[BaseException], ...] = (LedgerUnavailable,)
        self._spool_trouble, self._replay_at = FailureLog(log, "the spool"), 0.0
        self._room, self._ledger_is_full, self._broker_is_full = MemoryWatch(), False, False

    def tick(self) -> float:
        """Do what is due now; return the seconds until the next look.

        Raises LedgerUnavailable, and what publishing raises; nothing is lost by either. Raises what
        is unexpected once everything else has been done.
        """
        # The spool first, so that what a call came to is known before its lease is looked at.
        steps: list[Callable[[], float | None]] = [
            self._replay,
            self._look_for_room,
            self._run_out,
            self._wake_reports,
            self._wake_notices,
        ]
        if time.monotonic() < self._slices_until:
            steps = [self._replay, self._run_out]
        return min((POLL_S, *filter(None, self._each(steps))))

    def _each(self, things: Iterable[Callable[[], float | None]]) -> list[float | None]:
        """Do things of which one that fails unexpectedly stops no other; it is raised last."""
        answers, failed = [], list[Exception]()
        for thing in things:
            try:
                answers.append(thing())
            except Exception as error:
                if self._is_away(error):
                    raise
                failed.append(error)
        if failed:
            raise failed[0]
        return answers

    def _is_away(self, error: Exception) -> bool:
        """Tell what ends by itself from what has to be looked at."""
        return isinstance(error, self._away) and not isinstance(error, LedgerFault)

    def _replay(self) -> None:
        # A disk that is in trouble keeps no timer waiting.
        if time.monotonic() < self._replay_at:
            return
        try:
            self._recorder.replay()
        except OSError as error:
            self._replay_at = time.monotonic() + self._spool_trouble.fails(error)
        else:
            self._spool_trouble.over()

    def _look_for_room(self) -> None:
        self._ledger_is_full = self._ledger.is_full()
        self._broker_is_full = self._queues.is_full()
        full = {"the ledger": self._ledger_is_full, "the broker": self._broker_is_full}
        self._room.note([name for name, is_full in full.items() if is_full])

    def _run_out(self) -> float | None:
        due = self._ledger.claim(
            resend_wait_s=self._backoff.wait_s(1),
            oldest=self._queues.oldest(),
            can_publish=not self._broker_is_full,
        )
        # A message that is accepted takes more than one that waits, until its report. Reports are
        # reconciled and outcomes told, which frees memory.
        self._gate.set("closed" if self._ledger_is_full else due.lanes, due.rate)
        keep_time(due.rate)
        if due.wake:
            reached("after claim")
        self._each(
            partial(self._queues.publish_messages, ids, lane)
            for lane in Lane
            if (ids := [message_id for message_id, of in due.wake if of is lane])
        )
        if self._broker_is_full:
            return POLL_S
        if due.more:
            if time.monotonic() >= self._slices_until:
                self._slices_until = time.monotonic() + REST_S
            return SLICE_S
        self._slices_until = 0.0
        return None if due.next_s is None else max(due.next_s, REST_S)

    def _wake_reports(self) -> None:
        if self._broker_is_full:
            return
        reports = self._ledger.claim_reports(wake_after_s=REPORT_AGAIN_S)
        self._each(partial(self._queues.publish_report, *report) for report in reports)

    def _wake_notices(self) -> None:
        if self._broker_is_full:
            return
        # The ledger holds the backlog, so that a slow receiver's does not come round as copies.
        room = max(0, NOTICES_AT_ONCE - self._queues.notices())
        names = self._notices.claim(room) if room else ()
        self._each(partial(self._queues.publish_notice, name) for name in names)

    def run(
        self,
        stop: Event,
        connection_errors: tuple[type[BaseException], ...],
        beat: Callable[[], object],
    ) -> None:
        """Tick until told to stop, whatever is raised; what keeps it from that is logged.

        `beat` is called after each tick that got through, or that only waits for Redis: without it
        this process is to be taken for stuck.
        """
        self._away = (LedgerUnavailable, *connection_errors)
        wait_s, trouble = 0.0, FailureLog(log, "the clock")
        while not stop.wait(wait_s):
            try:
                wait_s = self.tick()
            except Exception as error:  # noqa: BLE001 - without a clock every timer stops
                if isinstance(error, SchemaTooNew):
                    self._gate.shut()
                if not self._is_away(error):
                    wait_s = trouble.fails(error)
                    continue
                wait_s = trouble.waits(error)
            else:
                trouble.over()
            beat()
