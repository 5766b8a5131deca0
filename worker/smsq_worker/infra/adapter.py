"""Requests to one origin, over kept-alive sockets that threads share.

Not by a Session of requests: that would add cookies, proxies from the environment and a .netrc that
replaces the Authorization header, and cost more than all the rest of a call. A request is written
once. Whatever goes wrong before its first byte has left is NotConnected; anything else may have
been sent, and is an exception of requests.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from threading import Lock
from typing import Final

import requests
from urllib3.util import parse_url

from smsq.boottime import now_s
from smsq_worker.infra.answer import Response, read_answer
from smsq_worker.infra.http import (
    MIN_TIMEOUT_S,
    NotConnected,
    Request,
    name_of,
    socket_options,
    tls_context,
)
from smsq_worker.infra.resolver import RESOLVER, Place, connect

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 0.001
"""A connection that was waited over for longer may have been closed meanwhile."""
_PORTS: Final = {"http": 80, "https": 443}


class _Connection:
    """A socket, used for one request at a time, whose timeouts Python keeps by polling."""

    used_at = 0.0

    def __init__(self, sock: socket.socket, write_s: float, read_s: float) -> None:
        self.sock = sock
        self._write_s = write_s
        self._read_s = read_s

    def is_quiet(self) -> bool:
        """Return whether nothing has come, neither bytes nor an end.

        What TLS says to itself, such as tickets, is read here and does not count.
        """
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def write(self, data: bytes) -> None:
        """Write a request. After an error in TLS it is unknown whether some of it has left."""
        self.sock.settimeout(self._write_s)
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server may have answered before it closed the connection.
        except TimeoutError as error:
            raise ConnectionAbortedError from error
        self.sock.settimeout(self._read_s)

    def rest(self) -> None:
        """Prepare for the next request."""
        self.used_at = now_s()


class _KernelTimed(_Connection):
    """A plain connection whose timeouts the kernel keeps: a system call less for each read."""

    def __init__(self, sock: socket.socket, write_s: float, read_s: float) -> None:
        super().__init__(sock, write_s, read_s)
        for option, timeout_s in ((socket.SO_SNDTIMEO, write_s), (socket.SO_RCVTIMEO, read_s)):
            seconds, part = divmod(max(timeout_s, MIN_TIMEOUT_S), 1)
            # A timeval. Where it has another form the system refuses it or shows another value.
            timeval = struct.pack("@ll", int(seconds), int(part * 1_000_000))
            sock.setsockopt(socket.SOL_SOCKET, option, timeval)
            kept = sock.getsockopt(socket.SOL_SOCKET, option, len(timeval))
            if struct.unpack("@ll", kept)[0] - int(seconds) not in (0, 1):
                raise OSError("this system's timeval has another form")
        sock.settimeout(None)

    def is_quiet(self) -> bool:
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def write(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data)
        except OSError as error:
            # The kernel has taken nothing.
            raise NotConnected(name_of(error)) from error
        if sent < len(data):
            super().write(data[sent:])

    def rest(self) -> None:
        super().rest()
        if self.sock.gettimeout() is not None:
            self.sock.settimeout(None)


class Adapter:
    """Sends requests to the origin of a URL."""

    def __init__(
        self,
        url: str,
        *,
        verify: bool | str = True,
        connect_timeout_s: float,
        read_timeout_s: float,
        idle_timeout_s: float,
        connections: int,
        look_up: Callable[[str, float], list[Place]] | None = None,
    ) -> None:
        """`look_up` finds a host's addresses within a timeout, where the resolver is not to."""
        origin = parse_url(url)
        scheme = str(origin.scheme)
        self._is_secure = scheme == "https"
        self._verify = verify
        self._host = str(origin.host).strip("[]")
        self._port = origin.port or _PORTS[scheme]
        port = "" if self._port == _PORTS[scheme] else f":{self._port}"
        self._netloc = f"{str(origin.host).rstrip('.')}{port}"
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._look_up = look_up or RESOLVER.look_up
        self._options = socket_options(read_timeout_s, idle_timeout_s)
        self._idle: list[_Connection] = []
        self._room = connections
        self._lock = Lock()

    def send(self, request: Request, *, ready: Callable[[], None]) -> Response:
        """Send a request; return its response, whose body has been read.

        `ready` is called with the connection open, right before the request is written: perhaps
        twice, if its connection was closed meanwhile. What it raises is passed on, and nothing is
        written. Raises NotConnected, and exceptions of requests.
        """
        try:
            data = self._wire_form(request)
        except Exception as error:
            raise NotConnected(name_of(error)) from error
        connection = self._open_connection(ready)
        response = None
        try:
            connection.write(data)
            end = time.monotonic() + self._read_timeout_s
            response = read_answer(connection.sock, end)
        except (TimeoutError, BlockingIOError) as error:
            raise requests.ReadTimeout from error
        except ssl.SSLError as error:
            raise requests.exceptions.SSLError from error
        except (OSError, HTTPException) as error:
            raise requests.ConnectionError from error
        finally:
            if response is not None and response.keeps:
                self._keep(connection)
            else:
                connection.sock.close()
        return response

    def close(self) -> None:
        """Close the idle connections, and those in use once they are idle."""
        with self._lock:
            self._room = 0
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.sock.close()

    def _wire_form(self, request: Request) -> bytes:
        # What follows the host; `path_url` would parse all of it for every request.
        target = request.url.split("/", 3)[3]
        lines = [f"{request.method} /{target} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if request.body or request.method != "GET":
            lines.append(f"Content-Length: {len(request.body)}")
        head = "\r\n".join([*lines, "", ""])
        if not head.count("\r") == head.count("\n") == len(lines) + 1:
            raise requests.exceptions.InvalidHeader("a line break in the head")
        return head.encode("latin-1") + request.body

    def _open_connection(self, ready: Callable[[], None]) -> _Connection:
        """Return a connection that is known to be open, after `ready`."""
        while True:
            connection = self._idle_connection() or self._new_connection()
            try:
                looked_at = time.monotonic()
                ready()
            except BaseException:
                connection.sock.close()
                raise
            if time.monotonic() - looked_at < LOOK_AGAIN_S or connection.is_quiet():
                return connection
            connection.sock.close()

    def _idle_connection(self) -> _Connection | None:
        """Return the connection used last, unless it is closed, or was idle for too long.

        A firewall in between may have dropped it silently by then.
        """
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            is_fresh = now_s() - connection.used_at < self._idle_timeout_s
            if is_fresh and connection.is_quiet():
                return connection
            connection.sock.close()

    def _keep(self, connection: _Connection) -> None:
        connection.rest()
        with self._lock:
            has_room = len(self._idle) < self._room
            if has_room:
                self._idle.append(connection)
        if not has_room:
            connection.sock.close()

    def _new_connection(self) -> _Connection:
        log.debug("Starting new %s connection", "HTTPS" if self._is_secure else "HTTP")
        try:
            return self._connect()
        except NotConnected:
            raise
        except Exception as error:
            raise NotConnected(name_of(error)) from error

    def _connect(self) -> _Connection:
        """Connect within the timeout: name lookup, all addresses and TLS together."""
        end = time.monotonic() + self._connect_timeout_s
        context = tls_context(self._verify) if self._is_secure else None
        places = self._look_up(self._host, self._connect_timeout_s)
        sock = connect(places, self._port, end, self._options)
        timeouts = (self._connect_timeout_s, self._read_timeout_s)
        try:
            if not context:
                with suppress(OSError):
                    return _KernelTimed(sock, *timeouts)
                return _Connection(sock, *timeouts)
            sock.settimeout(max(end - time.monotonic(), MIN_TIMEOUT_S))
            # A zone is no part of an address that a certificate names.
            name = self._host.partition("%")[0].rstrip(".")
            return _Connection(context.wrap_socket(sock, server_hostname=name), *timeouts)
        except BaseException:
            sock.close()
            raise
