"""A port that is opened and closed while the sandbox runs."""

from __future__ import annotations

from tornado.httpserver import HTTPServer
from tornado.web import Application

from smsq.errors import SmsqError
from smsq_worker.config.parsers import Bind
from smsq_worker.infra.ports import opened, shown

_MAX_BODY_BYTES = 64 * 1024


class BindError(SmsqError):
    """The address is in use, not permitted, or not of this machine; the text says which."""


class Port:
    """Serves an application while it is open. Used in the event loop only."""

    def __init__(self, bind: Bind, application: Application) -> None:
        self._bind = bind
        self._application = application
        self._server: HTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is, without a trailing slash; known once it has been open."""
        return f"http://{shown(self._bind)}"

    def open(self) -> None:
        """Listen, if it does not; a port that was free at first is the same again.

        Raises BindError.
        """
        if self._server is None:
            try:
                listener = opened(self._bind)
            except OSError as error:
                raise BindError(f"{self._bind[0]}:{self._bind[1]}: {error.strerror}") from error
            listener.setblocking(False)
            self._bind = self._bind[0], listener.getsockname()[1]
            self._server = HTTPServer(self._application, max_body_size=_MAX_BODY_BYTES)
            self._server.add_socket(listener)

    async def close(self) -> None:
        """Stop listening, and close all connections. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            await server.close_all_connections()
