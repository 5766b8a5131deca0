"""The sandbox as one object: listen, until a signal or from a thread of a test."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from tornado.httpserver import HTTPServer

from smsq.errors import SmsqError
from smsq_worker.sandbox.background import RunningSandbox
from smsq_worker.sandbox.handlers import Desk, application
from smsq_worker.sandbox.journal import Journal
from smsq_worker.sandbox.reports import ReportPusher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_BACKLOG = 1024
_MAX_BODY_BYTES = 64 * 1024


class BindError(SmsqError):
    """The address is taken, not allowed, or none of this machine; the text says which."""


class Sandbox:
    """The sandbox gateway.

    secret: what callers must put in `Authorization`.
    report_url: where reports are POSTed; None sends none.
    bind: host and port; port 0 takes a free one.
    report_delay_s: from acceptance to the report.
    slow_s: how long the slow outcomes take.
    log_path: file to which accepted calls are appended, see journal.py.
    """

    def __init__(
        self,
        *,
        secret: str,
        report_url: str | None,
        bind: tuple[str, int],
        report_delay_s: float = 1.0,
        slow_s: float = 2.0,
        log_path: Path | None = None,
    ) -> None:
        self._secret = secret
        self._report_url = report_url
        self._bind = bind
        self._report_delay_s = report_delay_s
        self._slow_s = slow_s
        self._journal = Journal(log_path)

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT; call it in the main thread.

        `on_ready` is given the address once it listens. Raises BindError, or OSError where
        the log cannot be written.
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
            listener = _listen(*self._bind)
            pusher = ReportPusher(self._report_url, self._report_delay_s)
            desk = Desk(self._secret, self._slow_s, self._journal, pusher)
            server = HTTPServer(application(desk), max_body_size=_MAX_BODY_BYTES)
            server.add_socket(listener)
            try:
                yield _url(self._bind[0], listener.getsockname()[1])
            finally:
                server.stop()
                await server.close_all_connections()
                # Before idle: a call may still wait until its early report is taken.
                await pusher.aclose()
                await desk.idle()


def _listen(host: str, port: int) -> socket.socket:
    # Not Tornado's bind_sockets: it leaves the socket open where the address is taken.
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
