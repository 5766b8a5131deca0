"""How every part of smsq talks to Redis."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from smsq import deadline, redis_urls
from smsq.boottime import now_s
from smsq.deadline import TimeIsUp
from smsq.errors import LedgerFull, LedgerUnavailable
from smsq.settings import shown_url

Client = redis.Redis

IDLE_S: Final = 30.0
"""The default of SMSQ_IDLE_TIMEOUT_S."""


def given_up(after_s: float) -> dict[int, int]:
    """Give options of TCP: what has not arrived by then shall not arrive later either.

    Without them the system of a host that was cut off goes on sending what its processes gave up
    long ago, and a message is admitted with nobody there to send it. Linux has such an option.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {option: int(after_s * 1000)} if option else {}


def kept_alive(after_s: float) -> dict[int, int]:
    """Give the same, and options that keep a connection known to the firewalls on its way."""
    found = {
        getattr(socket, name, None): value
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    }
    return {option: value for option, value in found.items() if option} | given_up(after_s)


def connect(
    url: str, *, idle_s: float = IDLE_S, try_s: float = 5.0, exchange_s: float = math.inf
) -> Client:
    """Give a client that connects when it is first used.

    Without timeouts a frozen server would block the caller for good. `try_s` is for one answer;
    `exchange_s` bounds all of one command or pipeline, with its tries; `deadline.within` bounds
    whatever is in its block. A connection idle for longer than `idle_s` is not used again.
    Commands are sent again after a lost connection; every script of ours is safe against that.
    """
    return _client(
        url,
        idle_s=idle_s,
        exchange_s=exchange_s,
        socket_timeout=try_s,
        socket_connect_timeout=min(2.0, try_s),
        socket_keepalive=True,
        socket_keepalive_options=kept_alive(5.0),
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 3),
    )


def connect_impatiently(url: str, timeout_s: float) -> Client:
    """Give a client that says soon, and after one try, that something is wrong."""
    return _client(
        url,
        encoding_errors="replace",  # Keys and messages of others may be anything.
        exchange_s=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def mapped_errors(url: str, doubt: str = "") -> Iterator[None]:
    """Turn what redis-py raises into LedgerUnavailable; `doubt` follows where it is in doubt."""
    try:
        yield
    except OutOfMemoryError as error:
        raise LedgerFull(
            f"the ledger's Redis at {shown_url(url)} (SMSQ_REDIS_URL) is full: it is at its "
            "maxmemory, and takes nothing new"
        ) from error
    except redis.RedisError as error:
        what = f"did not answer: {error}{doubt}"
        if isinstance(error, ResponseError):
            what = f"refused the command: {error}"
        raise LedgerUnavailable(
            f"the ledger at {shown_url(url)} (SMSQ_REDIS_URL) {what}"
        ) from error


def _client(url: str, **options: Any) -> Client:
    options["decode_responses"] = True
    if not redis_urls.names_sentinels(url):
        tls = url.startswith("rediss:")
        options["connection_class"] = TlsConnection if tls else Connection
        return redis.Redis.from_url(url, **options)
    at = redis_urls.read(url)
    options["connection_class"] = TlsPrimaryConnection if at.tls else PrimaryConnection
    login = {"db": at.db, "username": at.username, "password": at.password}
    return redis.Redis.from_pool(primary_pool(at, **login, **at.tls, **options))


def primary_pool(at: redis_urls.Sentinels, **options: Any) -> SentinelConnectionPool:
    """Give a pool of connections to the server that Sentinels name."""
    return SentinelConnectionPool(at.service, _Sentinels(at), **options)  # type: ignore[no-untyped-call]


class Fresh:
    """A connection that is not used again once it was idle for long.

    A firewall on the way may have forgotten it, and would swallow what is written to it.
    """

    _sock: Any
    disconnect: Callable[..., None]

    def __init__(self, *, idle_s: float = IDLE_S, **options: Any) -> None:
        self._idle_s = idle_s
        self._used_at = now_s()
        super().__init__(**options)

    def connect(self) -> None:
        """Connect where it is not, or was idle: pools call this each time they give one away."""
        if self._sock and now_s() - self._used_at > self._idle_s:
            self.disconnect()
        super().connect()  # type: ignore[misc]
        self._used_at = now_s()

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer."""
        answer = super().read_response(*args, **options)  # type: ignore[misc]
        self._used_at = now_s()
        return answer


class InTime:
    """A connection that never works beyond the deadline of whom it works for."""

    socket_timeout: float | None
    _socket_connect_timeout: float | None

    def __init__(self, *, exchange_s: float = math.inf, **options: Any) -> None:
        self._exchange_s = exchange_s
        self._ends_at = math.inf
        self._connecting = False
        super().__init__(**options)

    def connect(self) -> None:
        """Connect where it is not; an exchange begins, of one command or pipeline."""
        self._ends_at = time.monotonic() + self._exchange_s
        super().connect()  # type: ignore[misc]

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return min(deadline.left_s(), self._ends_at - time.monotonic())

    @property
    def socket_connect_timeout(self) -> float | None:
        """Bound a try to connect: redis-py asks anew for each address of a name."""
        own = self._socket_connect_timeout
        # Never 0, which would be another mode of the socket.
        return max(0.001, _least(own, self.left_s())) if self._connecting else own

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    def _connect(self) -> Any:
        if self.left_s() <= 0:
            raise TimeIsUp
        self._connecting = True
        try:
            return _Socket(super()._connect(), self.socket_timeout, self.left_s)  # type: ignore[misc]
        except OSError:
            if self.left_s() <= 0:
                raise TimeIsUp from None
            raise
        finally:
            self._connecting = False

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        # The handshake is one act for this timeout, however its bytes come.
        sock.settimeout(max(0.001, _least(self.socket_timeout, self.left_s())))
        return super()._wrap_socket_with_ssl(sock)  # type: ignore[misc]


class _Socket:
    """A socket whose every act has the time that is left, and its own timeout at the most."""

    def __init__(self, sock: Any, timeout: float | None, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._timeout = timeout
        self._left_s = left_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._sock.settimeout(timeout)

    def recv(self, *args: Any) -> bytes:
        received: bytes = self._in_time(self._sock.recv, *args)
        return received

    def recv_into(self, *args: Any) -> int:
        return int(self._in_time(self._sock.recv_into, *args))

    def sendall(self, data: Any) -> None:
        # Not the socket's own: over TLS its timeout begins anew with each part.
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._in_time(self._sock.send, rest) :]

    def _in_time(self, act: Callable[..., Any], *args: Any) -> Any:
        left_s = self._left_s()
        if left_s <= 0:
            raise TimeIsUp
        least = _least(self._timeout, left_s)
        self._sock.settimeout(None if least == math.inf else least)
        try:
            return act(*args)
        except TimeoutError:
            if self._left_s() <= 0:
                raise TimeIsUp from None
            raise


def _least(timeout: float | None, left_s: float) -> float:
    return left_s if timeout is None else min(timeout, left_s)


class _DroppedByReplica:
    """A connection that is given up where its server has become a replica.

    The server keeps the connection, so without this everything written over it would be refused
    until the process ends.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ReadOnlyError:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError("the server has become a replica") from None


class Connection(_DroppedByReplica, InTime, Fresh, redis.Connection):
    """A connection to a server."""


class TlsConnection(_DroppedByReplica, InTime, Fresh, redis.SSLConnection):
    """The same over TLS."""


class PrimaryConnection(InTime, Fresh, SentinelManagedConnection):
    """A connection to the server that the Sentinels name, at each new connection."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Write a command."""
        # redis-py would go back to the server that it has lost.
        if not self._sock:
            primary = self.connection_pool.get_master_address()
            self.connect_to(primary)  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer."""
        try:
            # Without this, redis-py leaves the answer to whoever uses the connection next.
            return super().read_response(*args, **{"disconnect_on_error": True, **options})
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            # Its replicas may have gone to another primary.
            self.disconnect()
            raise redis.ConnectionError(str(error)) from None


class TlsPrimaryConnection(PrimaryConnection, redis.SSLConnection):
    """The same over TLS."""


class _Sentinels(Sentinel):
    """Sentinels of which each that does not help is told, in plain words."""

    def __init__(self, at: redis_urls.Sentinels) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        options = {name: value for name, value in at.options.items() if name != "ssl"}
        options["connection_class"] = TlsConnection if at.tls else Connection
        self.sentinels = [
            redis.Redis.from_pool(redis.ConnectionPool(host=host, port=port, **options))
            for host, port in at.hosts
        ]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        told = []
        for sentinel in list(self.sentinels):
            try:
                services: Any = sentinel.sentinel_masters()
            except TimeIsUp:
                raise
            except redis.RedisError as error:
                told.append(str(error))
                continue
            primary = services.get(service_name)
            if primary and self.check_master_state(primary, service_name):  # type: ignore[no-untyped-call]
                # Those that are away would cost their timeout at each connection.
                self.sentinels = sorted(self.sentinels, key=lambda one: one is not sentinel)
                return primary["ip"], primary["port"]
            told.append("the primary is down" if primary else f"no service {service_name!r}")
        raise MasterNotFoundError(f"no Sentinel names a primary: {'; '.join(told)}")
