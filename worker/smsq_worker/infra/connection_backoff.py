"""Connections to the broker that do not wait again and again for an unreachable server.

A network that swallows packets costs each command its whole timeout. A worker's one loop
acknowledges dozens of messages one after the other, and would be deaf for minutes, also to SIGTERM.
"""

from __future__ import annotations

import time
from typing import Any, Final

import redis
from kombu.transport.redis import SentinelManagedSSLConnection
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelManagedConnection

from smsq.redis_connections import ReconnectingWhenIdle

LONG_S: Final = 1.0
"""A server that is up refuses sooner, and is tried again at once."""

_not_before: Final[dict[tuple[str, int], float]] = {}


class _BackingOff:
    host: str
    port: int

    def _connect(self) -> Any:
        """Connect; after a slow failure, fail at once for as long as that took."""
        server, began = (self.host, self.port), time.monotonic()
        if began < _not_before.get(server, 0.0):
            raise RedisTimeoutError("the server could not be reached a moment ago")
        try:
            return super()._connect()  # type: ignore[misc]
        except OSError:
            took = time.monotonic() - began
            if took > LONG_S:
                _not_before[server] = began + 2 * took
            raise


class Connection(_BackingOff, ReconnectingWhenIdle, redis.Connection):
    """A connection."""


class TlsConnection(_BackingOff, ReconnectingWhenIdle, redis.SSLConnection):
    """The same over TLS."""


class PrimaryConnection(_BackingOff, ReconnectingWhenIdle, SentinelManagedConnection):
    """A connection to the server that Sentinels name."""


class TlsPrimaryConnection(_BackingOff, ReconnectingWhenIdle, SentinelManagedSSLConnection):
    """The same over TLS."""
