"""What must happen later: retries, schedules, dead workers' attempts, lost wake-ups, probes.

Every worker runs a scheduler and none is special. The ledger does what is due in one act, which
pushes the wake-ups that follow where broker and ledger are one Redis. Otherwise the scheduler
publishes them; if it dies in between, the timer expires again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from threading import Event
from typing import Final, Protocol

from smsq.contract import NOTIFY_QUEUE, REPORT_QUEUE, Lane
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.domain.backoff import Backoff
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.memory import MemoryWatch
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.errors import LedgerFault, SchemaTooNew
from smsq_worker.ledger.types import CLAIM_AT_MOST
from smsq_worker.scheduler.other_rates import OtherRates
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.result_spool import ResultSpool
from smsq_worker.sending.send_times import set_switch_interval

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""The longest sleep: a timer set meanwhile by another process is not noticed earlier."""
SLICE_S: Final = 0.02
"""The sleep while more is due than one act takes."""
REST_S: Final = 0.05
"""The shortest sleep otherwise, so that timers are handled together. Ticks that follow one another
within it only handle timers."""
REPORT_AGAIN_S: Final = 30.0
"""When a report that was accepted but not reconciled is woken up again."""
WEIGH_S: Final = 60.0
"""How often it looks whether weights of routes are to move."""
MAX_QUEUED_CALLBACKS: Final = 200
MAX_QUEUED_REPORTS: Final = 400
"""Wake-ups of reports in the queue from which none is added: what waits there is woken up again."""


class Queues(Protocol):
    """What the scheduler needs of the broker."""

    wakeups: str
    """What the ledger pushes wake-ups with, see smsq.wakeup; "" where it cannot."""

    def oldest(self) -> Mapping[Lane, Sequence[str]]:
        """Return the ids of the oldest wake-up in each lane's queue, none where it is empty."""

    def is_full(self) -> bool:
        """Return whether the broker is at its memory limit, where it takes no wake-up."""

    def waiting(self, queue: str) -> int:
        """Count the wake-ups in a queue."""

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        """Publish the wake-ups of messages of one lane."""

    def publish_report(self, mid: str, stat: str) -> None:
        """Publish the wake-up of a report."""

    def publish_callback(self, name: str) -> None:
        """Publish the wake-up of a callback."""


@dataclass(eq=False, repr=False)
class Scheduler:
    """Handles the ledger's timers."""

    ledger: Ledger
    callbacks: Callbacks
    backoff: Backoff
    result_spool: ResultSpool
    _: KW_ONLY
    gate: ConsumerGate
    queues: Queues
    chores: Sequence[Callable[[], None]] = ()
    """What else is to be done in each tick."""
    reconcile: Callable[[Sequence[tuple[str, str]]], object] = lambda _: None
    """Applies reports here, where the broker is full and takes no wake-up."""

    def __post_init__(self) -> None:
        self._slices_until = self._weigh_at = 0.0
        self._outages: tuple[type[BaseException], ...] = (LedgerUnavailable,)
        self._spool_failures, self._replay_at = FailureLog(log, "the spool"), 0.0
        self._other_rates = OtherRates()
        self._memory, self._ledger_is_full, self._broker_is_full = MemoryWatch(), False, False

    def run(
        self,
        stop: Event,
        connection_errors: tuple[type[BaseException], ...],
        beat: Callable[[], object],
    ) -> None:
        """Tick until told to stop, whatever is raised, and log what fails.

        `beat` is called after each tick that succeeds or only waits for Redis: without it this
        process is considered stuck.
        """
        self._outages = (LedgerUnavailable, *connection_errors)
        wait_s, failures = 0.0, FailureLog(log, "the scheduler")
        while not stop.wait(wait_s):
            try:
                wait_s = self.tick()
            except Exception as error:  # noqa: BLE001 - without a scheduler every timer stops
                if isinstance(error, SchemaTooNew):
                    self.gate.shut()
                if not self._is_outage(error):
                    wait_s = failures.fails(error)
                    continue
                wait_s = failures.waits(error)
            else:
                failures.over()
            beat()

    def tick(self) -> float:
        """Run what is due now; return the seconds until the next tick.

        Raises LedgerUnavailable, and what publishing raises; nothing is lost by either. Raises an
        unexpected error once everything else has been done.
        """
        # The spool first, so that an attempt's result is known before its lease is looked at.
        steps: list[Callable[[], float | None]] = [
            self._replay_spool,
            self._check_memory,
            self._handle_timers,
            self._wake_reports,
            self._wake_callbacks,
            *self.chores,
            self._move_weights,
        ]
        if time.monotonic() < self._slices_until:
            steps = [self._replay_spool, self._handle_timers]
        return min((POLL_S, *filter(None, self._run_all(steps))))

    def _run_all(self, steps: Iterable[Callable[[], float | None]]) -> list[float | None]:
        """Run all steps, even if one fails unexpectedly; raise the first failure at the end."""
        answers, failed = [], list[Exception]()
        for step in steps:
            try:
                answers.append(step())
            except Exception as error:
                if self._is_outage(error):
                    raise
                failed.append(error)
        if failed:
            raise failed[0]
        return answers

    def _is_outage(self, error: Exception) -> bool:
        """Return whether an error passes and needs nobody's attention."""
        return isinstance(error, self._outages) and not isinstance(error, LedgerFault)

    def _replay_spool(self) -> None:
        # A failing disk must not delay the timers.
        if time.monotonic() < self._replay_at:
            return
        try:
            self.result_spool.replay()
        except OSError as error:
            self._replay_at = time.monotonic() + self._spool_failures.fails(error)
        else:
            self._spool_failures.over()

    def _check_memory(self) -> None:
        self._ledger_is_full = self.ledger.is_full()
        self._broker_is_full = self.queues.is_full()
        full = {"the ledger": self._ledger_is_full, "the broker": self._broker_is_full}
        self._memory.note([name for name, is_full in full.items() if is_full])

    def _handle_timers(self) -> float | None:
        due = self.ledger.claim(
            resend_wait_s=self.backoff.wait_s(1),
            oldest=self.queues.oldest(),
            can_publish=not self._broker_is_full,
            wakeups=self.queues.wakeups,
        )
        # An accepted message takes more memory than one that waits, until its report. Reports are
        # still reconciled and callbacks dispatched, which frees memory.
        lanes = "closed" if self._ledger_is_full else due.lanes
        self.gate.set(lanes, due.rate, due.closed)
        set_switch_interval(due.rate)
        self._other_rates.note(due.other_rates)
        if due.wake or due.woken:
            reached("after claim")
        self._run_all(
            partial(self.queues.publish_messages, ids, lane)
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

    def _wake_reports(self) -> float | None:
        if self._broker_is_full:
            # They free memory, so they must not wait for it.
            self.reconcile(self.ledger.claim_reports(wake_after_s=REPORT_AGAIN_S))
            return None
        if self.queues.waiting(REPORT_QUEUE) >= MAX_QUEUED_REPORTS:
            return None
        reports = self.ledger.claim_reports(wake_after_s=REPORT_AGAIN_S)
        self._run_all(partial(self.queues.publish_report, *report) for report in reports)
        return REST_S if len(reports) >= CLAIM_AT_MOST else None

    def _wake_callbacks(self) -> None:
        if self._broker_is_full:
            return
        # The ledger holds the backlog, so that a slow endpoint's callbacks are not queued twice.
        room = max(0, MAX_QUEUED_CALLBACKS - self.queues.waiting(NOTIFY_QUEUE))
        names = self.callbacks.claim(room) if room else ()
        self._run_all(partial(self.queues.publish_callback, name) for name in names)

    def _move_weights(self) -> None:
        if time.monotonic() >= self._weigh_at:
            self._weigh_at = time.monotonic() + WEIGH_S
            self.ledger.move_weights()
