"""A port that is opened and closed while the sandbox runs."""

from __future__ import annotations

import socket

from tornado.httpserver import HTTPServer
from tornado.web import Application

from smsq.errors import SmsqError

_BACKLOG = 1024
_MAX_BODY_BYTES = 64 * 1024


class BindError(SmsqError):
    """The address is in use, not permitted, or not of this machine; the text says which."""


class Port:
    """Serves an application while it is open. Used in the event loop only."""

    def __init__(self, bind: tuple[str, int], application: Application) -> None:
        self._host, self._port = bind
        self._application = application
        self._server: HTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is, without a trailing slash; known once it has been open."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def open(self) -> None:
        """Listen, if it does not; a port that was free at first is the same again.

        Raises BindError.
        """
        if self._server is None:
            listener = _listen(self._host, self._port)
            self._port = listener.getsockname()[1]
            self._server = HTTPServer(self._application, max_body_size=_MAX_BODY_BYTES)
            self._server.add_socket(listener)

    async def close(self) -> None:
        """Stop listening, and close all connections. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            await server.close_all_connections()


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
