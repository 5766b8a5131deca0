"""Keep reports safe: in the ledger, or on the disk while Redis is away.

There is room for a fixed number, whoever sends them: the report address is a secret that may leak,
and reports must fill neither Redis nor the disk. What is taken is kept; all else is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from threading import Event
from typing import Any, Final

from smsq import deadline
from smsq.errors import LedgerFull, LedgerUnavailable
from smsq.ledger_writer import WakeUp
from smsq_worker.delivery_reports.coalescer import MidAndStat
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.quiet import Quiet
from smsq_worker.infra.spool import Spool, SpoolFull
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.errors import LedgerFault
from smsq_worker.ledger.reports import NO_WAKEUP

log = logging.getLogger(__name__)

WAKE_AFTER_S: Final = 30
"""After this a scheduler publishes a report whose own wake-up was lost."""
POLL_S: Final = 1.0
BATCH: Final = 50
"""Reports in one wake-up, and in one act of the ledger, for which others wait."""


@dataclass(eq=False, repr=False)
class Inbox:
    """Takes in reports (mid, stat). Threads share it."""

    ledger: Ledger
    spool: Spool
    publish_reports: Callable[[Sequence[MidAndStat]], None]
    """For those that the ledger does not wake up itself, or whose queue did not take that."""
    _: KW_ONLY
    wakeup: Callable[[Sequence[MidAndStat]], WakeUp] | None = None
    """Makes what the ledger pushes itself, where broker and ledger are one Redis."""
    timeout_s: float = 3.0

    def __post_init__(self) -> None:
        self._is_spooling = Event()
        self._progress_at = time.monotonic()
        self._quiet = Quiet()

    def keep(self, reports: Sequence[MidAndStat]) -> Collection[MidAndStat]:
        """Make reports safe; return those for which there is no room.

        Raises OSError where neither Redis nor the disk takes them.
        """
        # While Redis is away, and until the spool has been replayed, none waits for Redis.
        if not self._is_spooling.is_set():
            try:
                return self._enter(reports)
            except LedgerFull as error:
                # Redis answers at once, so each is tried: only those of unknown mids must wait.
                self._warn(
                    "reports go to the spool from now on, if no message has their mid: %s", error
                )
                reports = self._enter_known(reports)
            except LedgerUnavailable as error:
                log.warning("reports go to the spool from now on: %s", error)
                self._is_spooling.set()
        try:
            if reports:
                self.spool.append({"reports": reports})
        except SpoolFull as error:
            self._warn("reports are refused: %s", error)
            return reports
        return ()

    def run(
        self,
        stop: Event,
        beat: Callable[[], object] = lambda: None,
        each_round: Callable[[Ledger], object] = lambda _: None,
    ) -> None:
        """Replay the spool into the ledger whenever Redis answers, until `stop` is set.

        Exceptions are logged and never end the loop. `beat` is called after each round that got
        through, or that only waits for Redis or the disk.
        """
        rest = partial(self._rest, stop, beat, each_round)
        wait_s, failures = POLL_S, FailureLog(log, "the spool")
        while not stop.wait(wait_s):
            wait_s = POLL_S
            try:
                self._replay(rest)
                each_round(self.ledger)
            except LedgerFault as error:  # waiting does not help, so there is no heartbeat
                self._is_spooling.set()
                wait_s = failures.fails(error)
                continue
            except LedgerUnavailable:
                self._is_spooling.set()
                self._progress_at = time.monotonic()
            except Exception as error:  # noqa: BLE001 - without this thread reports stay here
                # What is on the disk waits; new reports need not.
                self._is_spooling.clear()
                wait_s = failures.fails(error)
                if not isinstance(error, OSError):
                    continue
            else:
                self._is_spooling.clear()
                self._progress_at = time.monotonic()
                failures.over()
            beat()

    def stuck_s(self) -> float:
        """Return for how long nothing has been replayed although Redis answered."""
        return time.monotonic() - self._progress_at

    def _rest(
        self, stop: Event, beat: Callable[[], object], each_round: Callable[[Ledger], object]
    ) -> None:
        """Wait for room. Raises LedgerUnavailable where there is no time for it."""
        each_round(self.ledger)
        beat()
        if stop.wait(POLL_S):
            raise LedgerUnavailable("the API is stopping")

    def _replay(self, rest: Callable[[], None]) -> None:
        if not self.spool.pending():
            return
        replayed = self.spool.replay(lambda entry: self._enter_spooled(entry, rest))
        if replayed.applied:
            log.warning("%d calls' reports came from the spool", replayed.applied)
        if replayed.set_aside:
            self.ledger.count_set_aside("spooled_report", replayed.set_aside)

    def _enter_spooled(self, entry: dict[str, Any], rest: Callable[[], None]) -> None:
        """Enter a spooled entry. Raises LedgerUnavailable, or anything else where it is invalid.

        Where there is no room it waits here: from its beginning a file would never come through.
        """
        reports: Sequence[MidAndStat] = [(mid, stat) for mid, stat in entry["reports"]]
        if not all(isinstance(text, str) for report in reports for text in report):
            raise TypeError
        while True:
            try:
                reports = [*self._enter(reports)]
            except LedgerFull:
                reports = [*self._enter_known(reports)]
            if not reports:
                break
            # Redis answers, so new reports need not wait behind these.
            self._is_spooling.clear()
            self._warn("reports in the spool wait: %s", "there is no room for them in Redis")
            rest()
        self._progress_at = time.monotonic()

    def _enter(
        self, reports: Sequence[MidAndStat], *, only_known: bool = False
    ) -> Sequence[MidAndStat]:
        """Write reports to the ledger, and wake them up; return those for which it has no room.

        Raises LedgerUnavailable.
        """
        wakeup = None if only_known else self.wakeup
        refused: list[MidAndStat] = []
        with deadline.within(self.timeout_s):
            wake: list[list[MidAndStat]] = []
            for start in range(0, len(reports), BATCH):
                some = reports[start : start + BATCH]
                taken = self.ledger.take_in(
                    some,
                    wake_after_s=WAKE_AFTER_S,
                    wakeup=wakeup(some) if wakeup else NO_WAKEUP,
                    only_known=only_known,
                )
                refused += taken.refused
                wake.append(taken.wake)
            try:
                for some in filter(None, wake):
                    self.publish_reports(some)
            except Exception as error:  # noqa: BLE001 - whatever it is, the reports are safe
                self._warn("a report is safe, but its wake-up was not published: %s", error)
        return refused

    def _enter_known(self, reports: Sequence[MidAndStat]) -> Sequence[MidAndStat]:
        """Enter them at the memory limit of Redis; return all if that fails."""
        try:
            return self._enter(reports, only_known=True)
        except LedgerUnavailable:
            return reports

    def _warn(self, words: str, what: object) -> None:
        if self._quiet.is_over(words):
            log.warning(words, what)
