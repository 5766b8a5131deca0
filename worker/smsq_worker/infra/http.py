"""HTTP connections that tell whether they came about, and answers of which the time is bounded.

What the gateway's client and the outcomes' share; it knows neither.
"""

from __future__ import annotations

import io
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPResponse, parse_headers
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from smsq.boottime import now_s
from smsq.connection import user_timeout
from smsq.settings import IDLE_S
from smsq_worker.infra.resolver import RESOLVER, Place, connect

MAX_RETRY_AFTER_S: Final = 3600.0
SWITCHED: Final = 101
"""What follows is another protocol."""
LEAST_S: Final = 0.001
CHUNK: Final = 8192


class NotConnected(Exception):  # noqa: N818
    """No connection came about, so nothing of the request has left this machine."""


class _Timely(io.RawIOBase):
    """Reads from a socket while its timeout, counted from now for all reads together, lasts.

    The socket's own timeout is for one read; a server that dribbles would keep us for ever.
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


class _TimelyResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timely(self.fp.detach(), sock))

    def _read_status(self) -> tuple[str, int, str]:
        """Skip what comes before the answer (1xx), of which http.client knows 100 alone."""
        while True:
            told: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 < told[1] < 200 or told[1] == SWITCHED:  # noqa: PLR2004
                return told
            parse_headers(self.fp)


class _Telling:
    """Connects within its timeout, the resolver, every address and TLS together.

    Raises NotConnected for whatever goes wrong meanwhile. One that lay idle is not used again: a
    firewall between may have forgotten it, and say so to nobody.
    """

    response_class: Any = _TimelyResponse
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
        """Return whether it can be used; urllib3 asks before it uses one again."""
        is_idle = now_s() - self._used_at >= self._idle_s
        return not is_idle and super().is_connected  # type: ignore[misc]

    def places(self) -> list[Place]:
        """Look up where to connect. Raises NotConnected, OSError."""
        return RESOLVER.look_up(self._dns_host, self.timeout)

    def _new_conn(self) -> socket.socket:
        end = time.monotonic() + self.timeout
        sock = connect(self.places(), self.port, end, self.socket_options)
        # What is left is for TLS.
        sock.settimeout(max(end - time.monotonic(), LEAST_S))
        return sock


class Connection(_Telling, HTTPConnection):
    """A plain connection."""


class SecureConnection(_Telling, HTTPSConnection):
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


class Adapter(HTTPAdapter):
    """The adapter of requests over pools of one's own, by scheme.

    It is used without a Session: that would add cookies, proxies from the environment and a
    .netrc that replaces an Authorization header.
    """

    def __init__(
        self,
        pools: Mapping[str, Callable[..., HTTPConnectionPool]],
        *,
        socket_options: list[tuple[int, int, int]],
        **options: Any,
    ) -> None:
        self._pools = dict(pools)
        self._socket_options = socket_options
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools made by ours."""
        super().init_poolmanager(*args, **kwargs, socket_options=self._socket_options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Trust the system's CAs where no others are named. Raises NotConnected."""
        if verify is True:
            # Where no CAs are named, urllib3 loads the system's; requests would name certifi's.
            conn.cert_reqs = "CERT_REQUIRED"
            return
        try:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        except OSError as error:  # The bundle has gone.
            raise NotConnected(name_of(error)) from error


def socket_options(read_timeout_s: float, idle_s: float) -> list[tuple[int, int, int]]:
    """Return options of TCP for connections that are kept.

    What was given up must not arrive later, when another call may have followed. And who looks
    after connections in between, a NAT or a balancer, is shown that they are in use.
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


def read(response: requests.Response, at_most: int) -> tuple[bytes, str]:
    """Read an answer's body; where something was wrong with it, what came of it, and what."""
    body = bytearray()
    try:
        if response.status_code < 200:  # noqa: PLR2004
            # Another answer follows, which the next call would take for its own.
            response.raw.close()
        for chunk in _chunks(response.raw):
            body += chunk
            if len(body) > at_most:
                return bytes(body[:at_most]), "answer too long"
    except Exception as error:  # noqa: BLE001 - the seam's other half
        return bytes(body), name_of(error)
    return bytes(body), ""


def _chunks(raw: Any) -> Iterator[bytes]:
    """Read as it comes: urllib3's stream keeps what came before an error to itself."""
    if raw.chunked:
        return raw.stream(CHUNK, decode_content=True)  # type: ignore[no-any-return]
    return iter(partial(raw.read1, CHUNK, decode_content=True), b"")


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Read Retry-After, seconds or an HTTP date, up to an hour; 0 where there is none."""
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
    """Name an error by its type: its text holds the URL, and so what must not be shown."""
    return type(error).__name__
