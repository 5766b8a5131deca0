"""Keep reports safe: in the ledger, or on the disk while Redis is away.

Reports that come while a write is under way are written together by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain
from threading import Event
from typing import Any, Final

from smsq import deadline
from smsq.errors import LedgerUnavailable
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.errors import LedgerFault

log = logging.getLogger(__name__)

WAKE_AFTER_S: Final = 30
"""After this a scheduler publishes a report whose own wake-up was lost."""
POLL_S: Final = 1.0
BATCH: Final = 50
"""Reports in one wake-up, and in one act of the ledger, for which others wait."""

MidAndStat = tuple[str, str]


class WriteCoalescer:
    """Runs a write in a thread, each time with all that was submitted during the previous one.

    There is no timer: a report that comes alone is written at once.
    """

    def __init__(
        self, write: Callable[[Sequence[MidAndStat]], None], *, within_s: float | None = None
    ) -> None:
        self._write = write
        self._within_s = within_s
        self._waiting: list[tuple[Sequence[MidAndStat], asyncio.Future[None]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, reports: Sequence[MidAndStat]) -> None:
        """Wait until reports are written. Raises what the write that included them raises.

        Raises TimeoutError where that takes too long: then they may be written, now or later.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((reports, done))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._within_s):
                await done
        finally:
            # While a write hangs, reports that nobody waits for any more must not pile up.
            self._waiting = [one for one in self._waiting if one[1] is not done]

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._write, [*chain.from_iterable(r for r, _ in batch)])
            except Exception as raised:  # noqa: BLE001 - it is raised in each that submitted
                error = raised
            for _, done in batch:
                if done.cancelled():
                    continue
                if error:
                    done.set_exception(error)
                else:
                    done.set_result(None)


class Inbox:
    """Takes in reports (mid, stat). Threads share it."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        publish_reports: Callable[[Sequence[MidAndStat]], None],
        *,
        timeout_s: float = 3.0,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._publish_reports = publish_reports
        self._timeout_s = timeout_s
        self._is_spooling = Event()
        self._progress_at = time.monotonic()

    def keep(self, reports: Sequence[MidAndStat]) -> None:
        """Make reports safe. Raises OSError where neither Redis nor the disk takes them."""
        # While the spool has entries, reports queue behind them, and none waits for Redis.
        if not self._is_spooling.is_set():
            try:
                return self._enter(reports)
            except LedgerUnavailable as error:
                log.warning("reports go to the spool from now on: %s", error)
                self._is_spooling.set()
        return self._spool.append({"reports": reports})

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
        wait_s, failures = POLL_S, FailureLog(log, "the spool")
        while not stop.wait(wait_s):
            wait_s = POLL_S
            try:
                self._replay()
                each_round(self._ledger)
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

    def _replay(self) -> None:
        if not self._spool.pending():
            return
        replayed = self._spool.replay(self._enter_spooled)
        if replayed.applied:
            log.warning("%d calls' reports came from the spool", replayed.applied)
        if replayed.set_aside:
            self._ledger.count_set_aside("spooled_report", replayed.set_aside)

    def _enter_spooled(self, entry: dict[str, Any]) -> None:
        """Enter a spooled entry. Raises LedgerUnavailable, or anything else where it is invalid."""
        reports = [(mid, stat) for mid, stat in entry["reports"]]
        if not all(isinstance(text, str) for report in reports for text in report):
            raise TypeError
        self._enter(reports)
        self._progress_at = time.monotonic()

    def _enter(self, reports: Sequence[MidAndStat]) -> None:
        """Write reports to the ledger, and publish them. Raises LedgerUnavailable."""
        batches = [reports[start : start + BATCH] for start in range(0, len(reports), BATCH)]
        with deadline.within(self._timeout_s):
            for batch in batches:
                self._ledger.take_in(batch, wake_after_s=WAKE_AFTER_S)
            try:
                for batch in batches:
                    self._publish_reports(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the reports are safe
                log.warning("a report is safe, but its wake-up was not published: %s", error)
