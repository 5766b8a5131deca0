"""HTTP as vendors, the adapter and callbacks speak it.

Answers that http.client reads have one deadline each, for head and body together.
"""

from __future__ import annotations

import io
import re
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPResponse, parse_headers
from typing import Any, Final, NamedTuple

from urllib3.connection import HTTPConnection

from smsq.connection import user_timeout

MAX_RETRY_AFTER_S: Final = 3600.0
MIN_TIMEOUT_S: Final = 0.001
CHUNK: Final = 8192


class NotConnected(Exception):  # noqa: N818
    """No connection came about, so nothing of the request has left this machine."""


class Request(NamedTuple):
    """A request, as the adapter writes it."""

    method: str
    url: str
    """It has a slash after the host, and what follows is encoded."""
    headers: Mapping[str, str]
    """Without a Host and a Content-Length."""
    body: bytes = b""


class _Buffer(io.BufferedReader):
    """Notes, when http.client is done with it, whether bytes are left over."""

    raw: DeadlineReader

    def close(self) -> None:
        if not self.closed:
            self.raw.is_over = True
            self.raw.leaves_bytes = bool(self.peek(1))
        super().close()


class DeadlineReader(io.RawIOBase):
    """Reads an answer from a socket until a deadline, a time.monotonic().

    The socket applies its timeout to each read: a server that dribbles could take forever. What has
    been read before, and failed then, can be given to be read again.
    """

    def __init__(
        self, sock: socket.socket, end: float, begun: bytes = b"", failed: OSError | None = None
    ) -> None:
        self._sock = sock
        self._end = end
        self._begun = begun
        self._failed = failed
        self.is_over = False
        """Nothing more is read from the socket."""
        self.leaves_bytes = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what http.client reads from."""
        return _Buffer(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what comes next. Raises OSError."""
        if self._begun:
            part, self._begun = self._begun[: len(buffer)], self._begun[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)
        if self.is_over:
            return 0
        if self._failed:
            raise self._failed
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class DeadlineResponse(HTTPResponse):
    """An answer as http.client reads it."""

    def flush(self) -> None:
        """Return at once, as nothing is written.

        http.client would flush what it has closed already, of which Python 3.13 tells on stderr.
        """

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (1xx); http.client skips 100 only. 101 is final."""
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < line[1] < 200:  # noqa: PLR2004
                return line
            parse_headers(self.fp)


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
