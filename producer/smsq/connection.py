"""How every part of smsq talks to Redis."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ReadOnlyError, ResponseError
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from smsq import sentinels
from smsq.errors import LedgerUnavailable
from smsq.settings import shown_url

Client = redis.Redis


def given_up(after_s: float) -> dict[int, int]:
    """Give options of TCP: what has not arrived by then shall not arrive later either.

    Without them the system of a host that was cut off goes on sending what its processes gave up
    long ago, and a message is admitted with nobody there to send it. Linux has such an option.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {option: int(after_s * 1000)} if option else {}


def connect(url: str) -> Client:
    """Give a client that connects when it is first used.

    Without timeouts a frozen server would block the caller for good. Commands are sent again
    after a lost connection; every script of ours is safe against that.
    """
    return _client(
        url,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        socket_keepalive_options=given_up(5.0),
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 3),
    )


def connect_impatiently(url: str, timeout_s: float) -> Client:
    """Give a client that says soon, and after one try, that something is wrong."""
    return _client(
        url,
        encoding_errors="replace",  # Keys and messages of others may be anything.
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def mapped_errors(url: str) -> Iterator[None]:
    """Turn what redis-py raises into LedgerUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise LedgerUnavailable(
            f"the ledger at {shown_url(url)} (SMSQ_REDIS_URL) did not take the command: {error}"
        ) from error


def _client(url: str, **options: Any) -> Client:
    options["decode_responses"] = True
    if not sentinels.names_sentinels(url):
        tls = url.startswith("rediss:")
        options["connection_class"] = _TlsConnection if tls else _Connection
        return redis.Redis.from_url(url, **options)
    at = sentinels.read(url)
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
        at.service,
        _Sentinels(at.hosts, sentinel_kwargs=at.options),  # type: ignore[no-untyped-call]
        connection_class=_TlsPrimaryConnection if at.tls else _PrimaryConnection,
        db=at.db,
        username=at.username,
        password=at.password,
        **at.tls,
        **options,
    )
    return redis.Redis.from_pool(pool)


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


class _Connection(_DroppedByReplica, redis.Connection):
    pass


class _TlsConnection(_DroppedByReplica, redis.SSLConnection):
    pass


class _PrimaryConnection(SentinelManagedConnection):
    """A connection to the server that the Sentinels name, at each new connection."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        # redis-py would go back to the server that it has lost.
        if not self._sock:
            primary = self.connection_pool.get_master_address()
            self.connect_to(primary)  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            # Without this, redis-py leaves the answer to whoever uses the connection next.
            return super().read_response(*args, **{"disconnect_on_error": True, **options})
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            # Its replicas may have gone to another primary.
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(str(error)) from None


class _TlsPrimaryConnection(_PrimaryConnection, redis.SSLConnection):
    pass


class _Sentinels(Sentinel):
    """Sentinels of which each that does not help is told, in plain words."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        told = []
        for sentinel in list(self.sentinels):
            try:
                services: Any = sentinel.sentinel_masters()
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
