"""HTTP connections that tell whether they came about, and answers of which the time is bounded.

What the gateway's client and the outcomes' share; it knows neither.
"""

from __future__ import annotations

import io
import re
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

MAX_RETRY_AFTER_S: Final = 3600.0


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


class _Telling:
    """Raises NotConnected for whatever goes wrong while connecting."""

    response_class: Any = _TimelyResponse

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except NotConnected:
            raise
        except Exception as error:
            raise NotConnected(name_of(error)) from error


class Connection(_Telling, HTTPConnection):
    """A plain connection."""


class SecureConnection(_Telling, HTTPSConnection):
    """A connection with TLS."""


class Adapter(HTTPAdapter):
    """The adapter of requests over pools of one's own, by scheme.

    It is used without a Session: that would add cookies, proxies from the environment and a
    .netrc that replaces an Authorization header.
    """

    def __init__(
        self, pools: Mapping[str, Callable[..., HTTPConnectionPool]], **options: Any
    ) -> None:
        self._pools = dict(pools)
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools made by ours."""
        super().init_poolmanager(*args, **kwargs)
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


def read(response: requests.Response, at_most: int) -> tuple[bytes, str]:
    """Read an answer's body whole; or give none, and what was wrong with it."""
    body = bytearray()
    try:
        if response.status_code < 200:  # noqa: PLR2004
            # Another answer follows, which the next call would take for its own.
            response.raw.close()
        for chunk in response.iter_content(8192):
            body += chunk
            if len(body) > at_most:
                return b"", "answer too long"
    except Exception as error:  # noqa: BLE001 - the seam's other half
        return b"", name_of(error)
    return bytes(body), ""


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
