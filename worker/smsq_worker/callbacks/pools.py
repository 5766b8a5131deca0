"""urllib3's pools for callbacks: guarded, within their timeouts, and silent about URLs.

Whatever goes wrong while connecting is NotConnected.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from smsq.boottime import now_s
from smsq_worker.callbacks.ssrf_guard import Guard
from smsq_worker.infra.http import MIN_TIMEOUT_S, DeadlineResponse, NotConnected, name_of
from smsq_worker.infra.resolver import connect


def guarded_pools(
    anywhere: Iterable[str], public: Iterable[str], idle_s: float
) -> dict[str, Callable[..., HTTPConnectionPool]]:
    """Return connection pools, by scheme, that obey a guard; plain http only to `anywhere`."""
    return {
        "http": partial(_Pool, guard=Guard(anywhere), idle_s=idle_s),
        "https": partial(_SecurePool, guard=Guard(anywhere, public), idle_s=idle_s),
    }


@contextmanager
def released(response: Any) -> Iterator[None]:
    """Release the connection of urllib3's response to its pool, closed if it was not read."""
    try:
        yield
    finally:
        response.close()
        response.release_conn()


class _Connecting:
    """Connects within its timeout: name lookup, all addresses and TLS together.

    An idle connection is not used again: a firewall in between may have dropped it silently.
    """

    response_class: Any = DeadlineResponse
    host: str
    port: int
    timeout: Any
    sock: Any
    socket_options: Any

    def __init__(self, *args: Any, guard: Guard, idle_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
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

    def _new_conn(self) -> socket.socket:
        end = time.monotonic() + self.timeout
        # TLS still checks the certificate against the name.
        places = self._guard.places(self.host, self.timeout)
        sock = connect(places, self.port, end, self.socket_options)
        # What is left is for TLS.
        sock.settimeout(max(end - time.monotonic(), MIN_TIMEOUT_S))
        return sock


class _Connection(_Connecting, HTTPConnection):
    pass


class _SecureConnection(_Connecting, HTTPSConnection):
    pass


_thread = threading.local()


def _is_loggable(record: logging.LogRecord) -> bool:
    """Return whether a record of urllib3's holds no URL of a pool here."""
    return not getattr(_thread, "is_private", False) or record.funcName == "_new_conn"


class _Private:
    """Keeps urllib3 from logging URLs: they hold a receiver's secret."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for module in ("urllib3.connection", "urllib3.connectionpool"):
            logging.getLogger(module).addFilter(_is_loggable)

    def urlopen(self, *args: Any, **options: Any) -> Any:
        _thread.is_private = True
        try:
            return super().urlopen(*args, **options)  # type: ignore[misc]
        finally:
            _thread.is_private = False


class _Pool(_Private, HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _SecurePool(_Private, HTTPSConnectionPool):
    ConnectionCls: Any = _SecureConnection
