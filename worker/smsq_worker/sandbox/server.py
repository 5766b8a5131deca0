"""The sandbox as one object, which serves until a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smsq_worker.sandbox.behaviour import DOWN, NORMAL
from smsq_worker.sandbox.handlers import application
from smsq_worker.sandbox.journal import Journal
from smsq_worker.sandbox.port import Port
from smsq_worker.sandbox.reports import ReportPusher


@dataclass(kw_only=True)
class Sandbox:
    """The sandbox gateway."""

    secret: str = field(repr=False)
    """What clients must put in `Authorization`."""
    report_url: str | None = field(repr=False)
    """Where reports are POSTed; None sends none."""
    bind: tuple[str, int]
    """Host and port; port 0 takes a free one."""
    report_delay_s: float = 1.0
    """From acceptance to the report."""
    slow_s: float = 2.0
    """How long the slow outcomes take."""
    log_path: Path | None = None
    """File to which accepted requests are appended, see journal.py."""
    account: str = ""
    """Which of several it plays."""

    def __post_init__(self) -> None:
        self.journal = Journal(self.log_path, self.account)
        self.mood = NORMAL
        """One of MOODS: how the account behaves now."""
        self.pusher: ReportPusher
        self._port: Port
        self._in_flight: set[asyncio.Task[Any]] = set()

    def track(self) -> None:
        """Count the current task as a request in flight until it ends."""
        if task := asyncio.current_task():
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def switch(self, mood: str) -> None:
        """Behave otherwise from now on. Raises BindError where its port was taken meanwhile."""
        if mood == DOWN:
            await self._port.close()
        else:
            self._port.open()
        self.mood = mood

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Serve in this event loop while the block runs. Raises as `run` does."""
        with self.journal.recording():
            self.pusher = ReportPusher(self.report_url, self.report_delay_s)
            self._port = Port(self.bind, application(self))
            try:
                self._port.open()
                yield self._port.url
            finally:
                await self._port.close()
                # First, as a request may still wait until its early report is taken.
                await self.pusher.aclose()
                if self._in_flight:
                    await asyncio.wait(self._in_flight)


def run(
    listening: Callable[[], AbstractAsyncContextManager[str]], on_ready: Callable[[str], None]
) -> None:
    """Serve one sandbox or several until SIGTERM or SIGINT; must be called in the main thread.

    `on_ready` is called with the address once it listens. Raises BindError, or OSError if the
    log cannot be written.
    """

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with listening() as url:
            on_ready(url)
            await stop.wait()

    asyncio.run(serve())
