"""The sandbox as one object: it serves until a signal, or in a thread of a test."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer

from smsq.errors import SmsqError
from smsq_worker.sandbox.background import RunningSandbox
from smsq_worker.sandbox.handlers import Shared, application
from smsq_worker.sandbox.journal import Journal
from smsq_worker.sandbox.reports import ReportPusher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_BACKLOG = 1024
_MAX_BODY_BYTES = 64 * 1024


class BindError(SmsqError):
    """The address is in use, not permitted, or not of this machine; the text says which."""


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

    def __post_init__(self) -> None:
        self._journal = Journal(self.log_path)

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT; must be called in the main thread.

        `on_ready` is called with the address once it listens. Raises BindError, or OSError if the
        log cannot be written.
        """
        asyncio.run(self._until_signal(on_ready))

    @contextmanager
    def serving(self) -> Iterator[RunningSandbox]:
        """Serve from a thread of this process while the block runs."""
        running = RunningSandbox(self._listening, self._journal)
        try:
            yield running
        finally:
            running.stop()

    async def _until_signal(self, on_ready: Callable[[str], None]) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with self._listening() as url:
            on_ready(url)
            await stop.wait()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[str]:
        with self._journal.recording():
            listener = _listen(*self.bind)
            pusher = ReportPusher(self.report_url, self.report_delay_s)
            shared = Shared(self.secret, self.slow_s, self._journal, pusher)
            server = HTTPServer(application(shared), max_body_size=_MAX_BODY_BYTES)
            server.add_socket(listener)
            try:
                yield _url(self.bind[0], listener.getsockname()[1])
            finally:
                server.stop()
                await server.close_all_connections()
                # Before idle: a request may still wait until its early report is taken.
                await pusher.aclose()
                await shared.idle()


def _listen(host: str, port: int) -> socket.socket:
    # Not Tornado's bind_sockets: it leaves the socket open if the address is in use.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BindError(f"{host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
