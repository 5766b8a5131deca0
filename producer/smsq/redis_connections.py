"""Connections to Redis that keep deadlines, do not lie idle, and leave a demoted server."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import ReadOnlyError

from smsq import deadline
from smsq.boottime import now_s
from smsq.deadline import DeadlineExceeded
from smsq.settings import IDLE_S


class ReconnectingWhenIdle:
    """A connection that is not used again once it was idle for long.

    A firewall on the way may have forgotten it, and would swallow what is written to it.
    """

    _sock: Any
    socket_timeout: float | None
    disconnect: Callable[..., None]
    can_read: Callable[..., bool]

    def __init__(self, *, idle_s: float = IDLE_S, **options: Any) -> None:
        self._idle_s = idle_s
        self._used_at = now_s()
        super().__init__(**options)

    def connect(self) -> None:
        """Connect unless connected and recently used; pools call this for each borrower."""
        now = now_s()
        if self._sock and now - self._used_at > self._idle_s and not self._is_alive():
            self.disconnect()
        if not self._sock:
            try:
                super().connect()  # type: ignore[misc]
            except BaseException:
                # redis-py leaves it half greeted where no RedisError ended that: whoever used it
                # next would read what is left of the greeting, and so the next one its answer.
                self.disconnect()
                raise
            now = now_s()
        self._used_at = now

    def drop_if_idle(self) -> None:
        """Disconnect if it was idle for long, whatever there is to read: nothing is owed to it."""
        if self._sock and now_s() - self._used_at > self._idle_s:
            self.disconnect()

    def _is_alive(self) -> bool:
        """Return whether there is something to read, which has come over it: it is not forgotten.

        redis-py's PubSub connects before it reads, and would wait at a new connection that has
        subscribed to nothing. The end of a connection can be read, too: it raises.
        """
        try:
            return self.can_read(timeout=0)
        except (redis.ConnectionError, OSError):
            return False

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer; never for longer than the timeout, which redis-py's PubSub lifts.

        A worker reads from it in the one thread that takes messages and handles signals.
        """
        if options.get("timeout", 0) is None:
            options["timeout"] = self.socket_timeout
        answer = super().read_response(*args, **options)  # type: ignore[misc]
        self._used_at = now_s()
        return answer


class KeepingDeadline:
    """A connection that never works beyond the deadline of its user, `smsq.deadline`.

    `exchange_s` bounds one command or pipeline besides, with all its retries.
    """

    socket_timeout: float | None
    _socket_connect_timeout: float | None

    def __init__(self, *, exchange_s: float = math.inf, **options: Any) -> None:
        self._exchange_s = exchange_s
        self._ends_at = math.inf
        self._connecting = False
        super().__init__(**options)

    def connect(self) -> None:
        """Connect unless connected; an exchange begins, of one command or pipeline."""
        self._ends_at = time.monotonic() + self._exchange_s
        super().connect()  # type: ignore[misc]

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return min(deadline.left_s(), self._ends_at - time.monotonic())

    @property
    def socket_connect_timeout(self) -> float | None:
        """Bound an attempt to connect: redis-py asks anew for each address of a name."""
        own = self._socket_connect_timeout
        return self._timeout(own) if self._connecting else own

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    def _connect(self) -> Any:
        if self.left_s() <= 0:
            raise DeadlineExceeded
        self._connecting = True
        try:
            return _DeadlineSocket(super()._connect(), self.socket_timeout, self.left_s)  # type: ignore[misc]
        except OSError:
            if self.left_s() <= 0:
                raise DeadlineExceeded from None
            raise
        finally:
            self._connecting = False

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        # This timeout bounds the handshake as a whole, however its bytes come.
        sock.settimeout(self._timeout(self.socket_timeout))
        return super()._wrap_socket_with_ssl(sock)  # type: ignore[misc]

    def _timeout(self, own: float | None) -> float:
        # Never 0, which would be another mode of the socket.
        return max(0.001, _least(own, self.left_s()))


class _DeadlineSocket:
    """A socket each of whose operations has its own timeout, or the time left if that is less."""

    def __init__(self, sock: Any, timeout: float | None, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._timeout = timeout
        self._left_s = left_s
        self._set: float | None = math.nan
        """What the socket itself has: setting it anew is a system call."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = self._set = timeout
        self._sock.settimeout(timeout)

    def recv(self, *args: Any) -> Any:
        return self._in_time(self._sock.recv, *args)

    def recv_into(self, *args: Any) -> Any:
        return self._in_time(self._sock.recv_into, *args)

    def sendall(self, data: Any) -> None:
        # Not the socket's own: over TLS its timeout begins anew with each part.
        left = memoryview(data).cast("B")
        while left:
            left = left[self._in_time(self._sock.send, left) :]

    def _in_time(self, operation: Callable[..., Any], *args: Any) -> Any:
        left_s = self._left_s()
        if left_s <= 0:
            raise DeadlineExceeded
        least = _least(self._timeout, left_s)
        timeout = None if least == math.inf else least
        if timeout != self._set:
            self._set = timeout
            self._sock.settimeout(timeout)
        try:
            return operation(*args)
        except TimeoutError:
            if self._left_s() <= 0:
                raise DeadlineExceeded from None
            raise


def _least(timeout: float | None, left_s: float) -> float:
    return left_s if timeout is None else min(timeout, left_s)


class _LeavingReplica:
    """A connection that is closed when its server turns out to have become a replica.

    The server keeps the connection, so without this everything written over it would be refused
    until the process ends.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError("the server has become a replica") from None


class Connection(_LeavingReplica, KeepingDeadline, ReconnectingWhenIdle, redis.Connection):
    """A connection to a server."""


class TlsConnection(_LeavingReplica, KeepingDeadline, ReconnectingWhenIdle, redis.SSLConnection):
    """The same over TLS."""
