"""Reports that come while a write is under way are written together by the next one."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

MidAndStat = tuple[str, str]

AT_ONCE: Final = 2000
"""About how many reports one write is for."""
WAITING_AT_MOST: Final = 100_000
"""How many reports may wait in memory."""
OF_ONE_SOURCE: Final = 20_000
"""How many of them may be of one source."""


class NoRoom(Exception):  # noqa: N818 - says what is so
    """There is no room for a report now: it is to be sent again later."""


@dataclass(eq=False, repr=False)
class WriteCoalescer:
    """Runs a write in a thread, each time with what was submitted during the previous one.

    There is no timer: a report that comes alone is written at once. Sources take turns, so that one
    that sends very many keeps none of the others waiting, nor takes all the room.
    """

    write: Callable[[Sequence[MidAndStat]], Collection[MidAndStat]]
    """Returns those for which there was no room."""
    within_s: float | None = None

    def __post_init__(self) -> None:
        self._waiting: dict[str, deque[_Submission]] = {}
        """By source, whose turn it is first."""
        self._counts: Counter[str] = Counter()
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, reports: Sequence[MidAndStat], source: str = "") -> None:
        """Wait until reports are written. Raises what the write that included them raises.

        Raises NoRoom where one was not taken; the others may be. Raises TimeoutError where that
        takes too long: then they may be written, now or later.
        """
        more = len(reports)
        if (
            self._counts[source] + more > OF_ONE_SOURCE
            or self._counts.total() + more > WAITING_AT_MOST
        ):
            raise NoRoom
        submission = _Submission(reports)
        self._waiting.setdefault(source, deque()).append(submission)
        self._counts[source] += more
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self.within_s):
                await submission.done
        finally:
            # While a write hangs, reports that nobody waits for any more must not pile up.
            if submission.is_waiting:
                self._waiting[source].remove(submission)
                self._forget(source, submission)

    async def _run(self) -> None:
        while batch := self._next():
            error: Exception | None = None
            refused: frozenset[MidAndStat] = frozenset()
            try:
                given = [report for one in batch for report in one.reports]
                refused = frozenset(await asyncio.to_thread(self.write, given))
            except Exception as raised:  # noqa: BLE001 - it is raised in each that submitted
                error = raised
            for one in batch:
                one.end(error or (NoRoom() if not refused.isdisjoint(one.reports) else None))

    def _next(self) -> list[_Submission]:
        """Return what the next write is for: one submission of each source in turn."""
        batch: list[_Submission] = []
        count = 0
        while self._waiting and count < AT_ONCE:
            source = next(iter(self._waiting))
            submission = self._waiting[source].popleft()
            self._forget(source, submission)
            batch.append(submission)
            count += len(submission.reports)
        return batch

    def _forget(self, source: str, submission: _Submission) -> None:
        """Note that a submission has left its source's queue, and that it is the others' turn."""
        submission.is_waiting = False
        self._counts[source] -= len(submission.reports)
        queue = self._waiting.pop(source)
        if queue:
            self._waiting[source] = queue
        else:
            del self._counts[source]


class _Submission:
    """Reports of one request, and who waits for them."""

    def __init__(self, reports: Sequence[MidAndStat]) -> None:
        self.reports = reports
        self.is_waiting = True
        """For a write, and not part of one."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, error: Exception | None) -> None:
        """Wake who waits, if anybody still does."""
        if self.done.cancelled():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)
