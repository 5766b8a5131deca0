"""HTTP whose errors tell whether a connection came about, with a deadline for the whole answer.

Shared by the gateway's client and the callbacks'; it knows neither.
"""

from __future__ import annotations

import io
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPResponse, parse_headers
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection

from smsq.boottime import now_s
from smsq.connection import user_timeout
from smsq.settings import IDLE_S
from smsq_worker.infra.resolver import RESOLVER, Place, connect

MAX_RETRY_AFTER_S: Final = 3600.0
MIN_TIMEOUT_S: Final = 0.001
CHUNK: Final = 8192


class NotConnected(Exception):  # noqa: N818
    """No connection came about, so nothing of the request has left this machine."""


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, with its timeout as the deadline of all reads together.

    The socket applies its timeout to each read: a server that dribbles could take forever.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._end = time.monotonic() + (sock.gettimeout() or 0)
        self._is_first = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        if not self._is_first:
            self._sock.settimeout(left)
        self._is_first = False
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock))

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (1xx); http.client skips 100 only. 101 is final."""
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < line[1] < 200:  # noqa: PLR2004
                return line
            parse_headers(self.fp)


class _Connecting:
    """Connects within its timeout: name lookup, all addresses and TLS together.

    Raises NotConnected for whatever goes wrong meanwhile. An idle connection is not used again: a
    firewall in between may have dropped it silently.
    """

    response_class: Any = _DeadlineResponse
    port: int
    timeout: Any
    sock: Any
    _dns_host: str
    socket_options: Any

    def __init__(self, *args: Any, idle_s: float = IDLE_S, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle_s = idle_s
        self._used_at = -math.inf

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
            self.sock.settimeout(self.timeout)
        except NotConnected:
            raise
        except Exception as error:
            raise NotConnected(name_of(error)) from error

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self._used_at = now_s()
        return response

    @property
    def is_connected(self) -> bool:
        """Return whether it can be used; urllib3 asks before it reuses one."""
        is_idle = now_s() - self._used_at >= self._idle_s
        return not is_idle and super().is_connected  # type: ignore[misc]

    def places(self) -> list[Place]:
        """Return the addresses to connect to. Raises NotConnected, OSError."""
        return RESOLVER.look_up(self._dns_host, self.timeout)

    def _new_conn(self) -> socket.socket:
        end = time.monotonic() + self.timeout
        sock = connect(self.places(), self.port, end, self.socket_options)
        # What is left is for TLS.
        sock.settimeout(max(end - time.monotonic(), MIN_TIMEOUT_S))
        return sock


class Connection(_Connecting, HTTPConnection):
    """A plain connection."""


class SecureConnection(_Connecting, HTTPSConnection):
    """A connection with TLS."""


_thread = threading.local()


def _is_loggable(record: logging.LogRecord) -> bool:
    """Return whether a record of urllib3's holds no URL of a PrivatePool."""
    return not getattr(_thread, "is_private", False) or record.funcName == "_new_conn"


class PrivatePool:
    """A pool whose URLs are not logged: they hold numbers and codes, or a receiver's secret."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for module in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(module).addFilter(_is_loggable)

    def urlopen(self, *args: Any, **options: Any) -> Any:
        """Send a request."""
        _thread.is_private = True
        try:
            return super().urlopen(*args, **options)  # type: ignore[misc]
        finally:
            _thread.is_private = False


def socket_options(read_timeout_s: float, idle_s: float) -> list[tuple[int, int, int]]:
    """Return the TCP options of connections that are kept.

    A request that was abandoned must not arrive later, when another may have followed. Keepalive
    shows a NAT or load balancer in between that the connection is in use.
    """
    options = user_timeout(read_timeout_s)
    probe_after_s = getattr(socket, "TCP_KEEPIDLE", None)
    if probe_after_s is not None:
        options[probe_after_s] = max(1, int(idle_s / 2))
    return [
        *HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, option, value) for option, value in options.items()),
    ]


def read_body(response: Any, limit: int) -> tuple[bytes, str]:
    """Return the body of urllib3's response, and what went wrong if it is incomplete."""
    body = bytearray()
    try:
        if response.status < 200:  # noqa: PLR2004
            # Another answer follows, which must not be taken for the next request's.
            response.close()
        for chunk in _chunks(response):
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), "answer too long"
    except Exception as error:  # noqa: BLE001 - whatever it is, the request has been sent
        return bytes(body), name_of(error)
    return bytes(body), ""


@contextmanager
def released(response: Any) -> Iterator[None]:
    """Release the connection of urllib3's response to its pool, closed if it was not read."""
    try:
        yield
    finally:
        response.close()
        response.release_conn()


def _chunks(raw: Any) -> Iterator[bytes]:
    """Read as it comes: urllib3's stream withholds what came before an error."""
    if raw.chunked:
        return raw.stream(CHUNK, decode_content=True)  # type: ignore[no-any-return]
    return iter(partial(raw.read1, CHUNK, decode_content=True), b"")


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return Retry-After, given in seconds or as an HTTP date, at most an hour; 0 without one."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", text):
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return 0
        # An HTTP date without a zone is UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0), MAX_RETRY_AFTER_S)


def name_of(error: BaseException) -> str:
    """Return the name of an error's type: its text may hold the URL, which must not be shown."""
    return type(error).__name__
