"""Connections to the primary that Sentinels name."""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import ResponseError
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)

from smsq.deadline import DeadlineExceeded
from smsq.redis_connections import Connection, KeepingDeadline, ReconnectingWhenIdle, TlsConnection
from smsq.redis_pools import Pool
from smsq.redis_urls import Sentinels


class PrimaryConnection(KeepingDeadline, ReconnectingWhenIdle, SentinelManagedConnection):
    """A connection that asks the Sentinels for the primary each time it is made anew."""

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


class PrimaryPool(Pool, SentinelConnectionPool):
    """A pool of connections to the server that Sentinels name."""

    def unlock(self) -> None:
        """Forget what was locked, in those to the Sentinels, too."""
        super().unlock()
        for one in self.sentinel_manager.sentinels:
            one.connection_pool.unlock()


def primary_pool(at: Sentinels, **options: Any) -> PrimaryPool:
    """Return a pool of connections to the server that Sentinels name."""
    return PrimaryPool(at.service, _Sentinels(at), **options)  # type: ignore[no-untyped-call]


class _Sentinels(Sentinel):
    """Sentinels whose failures to name a primary are all in the error's text."""

    def __init__(self, at: Sentinels) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        options = {name: value for name, value in at.options.items() if name != "ssl"}
        options["connection_class"] = TlsConnection if at.tls else Connection
        self.sentinels = [
            redis.Redis.from_pool(Pool(host=host, port=port, **options)) for host, port in at.hosts
        ]

    def discover_master(self, service_name: str) -> tuple[str, int]:
        failures = []
        for sentinel in list(self.sentinels):
            try:
                services: Any = sentinel.sentinel_masters()
            except DeadlineExceeded:
                raise
            except redis.RedisError as error:
                failures.append(str(error))
                continue
            primary = services.get(service_name)
            if primary and self.check_master_state(primary, service_name):  # type: ignore[no-untyped-call]
                # Those that are away would cost their timeout at each connection.
                self.sentinels = sorted(self.sentinels, key=lambda one: one is not sentinel)
                return primary["ip"], primary["port"]
            failures.append("the primary is down" if primary else f"no service {service_name!r}")
        raise MasterNotFoundError(f"no Sentinel names a primary: {'; '.join(failures)}")
