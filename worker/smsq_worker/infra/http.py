"""HTTP as vendors, the adapter and callbacks speak it."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from urllib3.connection import HTTPConnection
from urllib3.util.ssl_ import create_urllib3_context

from smsq.connection import user_timeout

MAX_RETRY_AFTER_S: Final = 3600.0
MIN_TIMEOUT_S: Final = 0.001


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


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return a context for one connection, as CAs may be replaced at any time.

    `verify` is that of `Address`. Raises OSError, of which ssl.SSLError is one.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    context.set_alpn_protocols(["http/1.1"])
    if isinstance(verify, str):
        if not os.path.exists(verify):  # noqa: PTH110
            # Not a FileNotFoundError: attempts show the type's name, which has always been this.
            raise OSError(0, "No such file or directory")
        is_folder = os.path.isdir(verify)  # noqa: PTH112
        context.load_verify_locations(**{"capath" if is_folder else "cafile": verify})
    elif verify:
        # The system's.
        context.load_default_certs()
    return context


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
