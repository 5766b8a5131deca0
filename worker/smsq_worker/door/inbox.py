"""Keeping reports safe: in the ledger, or on the disk while Redis is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event
from typing import Final

from smsq import deadline
from smsq.errors import LedgerUnavailable
from smsq_worker.ledger import Ledger
from smsq_worker.spool import Spool

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

    def run(self, stop: Event) -> None:
        """Bring the spool into the ledger whenever Redis is there, until told to stop."""
        while not stop.wait(LOOK_S):
            try:
                if self._spool.pending():
                    count = self._spool.replay(lambda entry: self._take_in(entry["reports"]))
                    log.warning("%d calls' reports came from the spool", count)
                self._behind.clear()
            except (LedgerUnavailable, OSError):
                self._behind.set()

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
