"""Keeping reports safe: in the ledger, or on the disk while Redis is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any, Final

from smsq import deadline
from smsq.errors import LedgerUnavailable
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.migrations import LedgerFault

log = logging.getLogger(__name__)

WAKE_AFTER_S: Final = 30
"""When a worker's clock wakes up a report whose own wake-up was lost."""
LOOK_S: Final = 1.0
AT_ONCE: Final = 50
"""So many reports are one act of the ledger, for which others wait, and one wake-up."""

Report = tuple[str, str]


class Inbox:
    """Takes reports (mid, stat) in."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        publish_reports: Callable[[Sequence[Report]], None],
        *,
        timeout_s: float = 3.0,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._publish_reports = publish_reports
        self._timeout_s = timeout_s
        self._behind = Event()
        self._seen_at = time.monotonic()

    def keep(self, reports: Sequence[Report]) -> None:
        """Make reports safe. Raises OSError where neither Redis nor the disk takes them."""
        # Behind what waits already, and without waiting for Redis at every report of an outage.
        if not self._behind.is_set():
            try:
                return self._take_in(reports)
            except LedgerUnavailable as error:
                log.warning("reports go to the spool from now on: %s", error)
                self._behind.set()
        return self._spool.append({"reports": reports})

    def run(
        self,
        stop: Event,
        beat: Callable[[], object] = lambda: None,
        besides: Callable[[Ledger], object] = lambda _: None,
    ) -> None:
        """Bring the spool into the ledger whenever Redis is there, until told to stop.

        Whatever is raised is logged, and stops nothing. `beat` is called after each round that got
        through, or only waits for Redis or the disk. `besides` is done in each round.
        """
        wait_s, trouble = LOOK_S, FailureLog(log, "the spool")
        while not stop.wait(wait_s):
            wait_s = LOOK_S
            try:
                self._replay()
                besides(self._ledger)
            except LedgerFault as error:  # to wait does not help, so it gives no sign of life
                self._behind.set()
                wait_s = trouble.fails(error)
                continue
            except LedgerUnavailable:
                self._behind.set()
                self._seen_at = time.monotonic()
            except OSError as error:
                # What is on the disk waits for the disk, and what comes in for nothing.
                self._behind.clear()
                wait_s = trouble.fails(error)
            except Exception as error:  # noqa: BLE001 - without this thread reports stay here
                self._behind.clear()
                wait_s = trouble.fails(error)
                continue
            else:
                self._behind.clear()
                self._seen_at = time.monotonic()
                trouble.over()
            beat()

    def stuck_s(self) -> float:
        """Tell for how long nothing has been brought in, though Redis was there."""
        return time.monotonic() - self._seen_at

    def _replay(self) -> None:
        if not self._spool.pending():
            return
        replayed = self._spool.replay(self._take_in_spooled)
        if replayed.applied:
            log.warning("%d calls' reports came from the spool", replayed.applied)
        if replayed.set_aside:
            self._ledger.count_set_aside("spooled_report", replayed.set_aside)

    def _take_in_spooled(self, entry: dict[str, Any]) -> None:
        """Take in an entry. Raises LedgerUnavailable, and anything else where it is none."""
        reports = [(mid, stat) for mid, stat in entry["reports"]]
        if not all(isinstance(text, str) for report in reports for text in report):
            raise TypeError
        self._take_in(reports)
        self._seen_at = time.monotonic()

    def _take_in(self, reports: Sequence[Report]) -> None:
        with deadline.within(self._timeout_s):
            self._bring_in(reports)

    def _bring_in(self, reports: Sequence[Report]) -> None:
        parts = [reports[start : start + AT_ONCE] for start in range(0, len(reports), AT_ONCE)]
        for part in parts:
            self._ledger.take_in(part, wake_after_s=WAKE_AFTER_S)
        try:
            for part in parts:
                self._publish_reports(part)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reports are safe
            log.warning("a report is safe, but its wake-up was not published: %s", error)
