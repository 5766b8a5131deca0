"""What must happen later: retries, schedules, dead workers' calls, lost wake-ups, probes.

Every worker runs a clock and none is special. The ledger does what is due in one act; the clock
publishes the wake-ups that follow. If it dies in between, the timer runs out again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Final, Protocol

from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq.killpoint import reached
from smsq_worker.backoff import Backoff
from smsq_worker.gate import Gate
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.notices import Notices
from smsq_worker.ledger.schema import Outgrown
from smsq_worker.recorder import Recorder
from smsq_worker.turnstile import keep_time

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""The longest sleep: a timer set meanwhile by another process is not noticed earlier."""
SLICE_S: Final = 0.01
"""The sleep where more is due, which comes in slices so far apart."""
REST_S: Final = 0.05
"""The shortest sleep otherwise, or each timer would be a look of its own."""
REPORT_AGAIN_S: Final = 30.0
"""When a report that was taken in but not reconciled is woken up again."""
NOTICES_AT_ONCE: Final = 200
"""So many outcomes' wake-ups may be in their queue."""


class Queues(Protocol):
    """What the clock needs of the broker."""

    def oldest(self) -> Mapping[Lane, Sequence[str]]:
        """Return the ids of the oldest wake-up in each lane's queue, none where it is empty."""

    def notices(self) -> int:
        """Count the wake-ups that wait in the queue of outcomes."""

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        """Publish the wake-ups of messages of one lane."""

    def publish_report(self, mid: str, stat: str) -> None:
        """Publish a report's."""

    def publish_notice(self, name: str) -> None:
        """Publish an outcome's."""


class Clock:
    """Runs out the ledger's timers."""

    def __init__(
        self,
        ledger: Ledger,
        notices: Notices,
        backoff: Backoff,
        recorder: Recorder,
        *,
        gate: Gate,
        queues: Queues,
    ) -> None:
        self._ledger = ledger
        self._notices = notices
        self._backoff = backoff
        self._recorder = recorder
        self._gate = gate
        self._queues = queues

    def tick(self) -> float:
        """Do what is due now; give the seconds until the next look.

        Raises LedgerUnavailable, and what publishing raises; nothing is lost by either.
        """
        # First, so that what a call came to is known before its lease is looked at.
        self._recorder.replay()
        due = self._ledger.claim(
            resend_wait_s=self._backoff.wait_s(1), oldest=self._queues.oldest()
        )
        self._gate.set(due.lanes, due.rate)
        keep_time(due.rate)
        if due.wake:
            reached("after claim")
        for lane in Lane:
            if ids := [message_id for message_id, of in due.wake if of is lane]:
                self._queues.publish_messages(ids, lane)
        for mid, stat in self._ledger.claim_reports(wake_after_s=REPORT_AGAIN_S):
            self._queues.publish_report(mid, stat)
        # The ledger holds the backlog, so that a slow receiver's does not come round as copies.
        room = max(0, NOTICES_AT_ONCE - self._queues.notices())
        for name in self._notices.claim(room) if room else ():
            self._queues.publish_notice(name)
        if due.more:
            return SLICE_S
        return POLL_S if due.next_s is None else min(max(due.next_s, REST_S), POLL_S)

    def run(
        self,
        stop: Event,
        connection_errors: tuple[type[BaseException], ...],
        beat: Callable[[], object],
    ) -> None:
        """Tick until told to stop; what keeps it from that is logged when it begins and ends.

        `beat` is called before each try.
        """
        wait_s, down = 0.0, False
        expected: tuple[type[BaseException], ...] = (LedgerUnavailable, *connection_errors)
        while not stop.wait(wait_s):
            beat()
            try:
                wait_s = self.tick()
            except expected as error:
                if isinstance(error, Outgrown):
                    self._gate.shut()
                if not down:
                    log.warning("the clock waits: %s", error)
                wait_s, down = POLL_S, True
            else:
                if down:
                    log.warning("the clock goes on")
                down = False
