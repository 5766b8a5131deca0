"""Connections to the broker that do not wait again and again for a server that is out of reach.

A network that swallows packets costs each command its whole timeout. A worker's one loop
acknowledges dozens of messages one after the other, and would be deaf for minutes: to SIGTERM, too.
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
"""A server that is there refuses sooner, and is asked again at once."""

_not_before: Final[dict[tuple[str, int], float]] = {}


class _Resting:
    host: str
    port: int

    def _connect(self) -> Any:
        """Connect; after a try that took long, fail at once for as long as it took."""
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


class Connection(_Resting, ReconnectingWhenIdle, redis.Connection):
    """A connection."""


class TlsConnection(_Resting, ReconnectingWhenIdle, redis.SSLConnection):
    """The same over TLS."""


class PrimaryConnection(_Resting, ReconnectingWhenIdle, SentinelManagedConnection):
    """A connection to the server that Sentinels name."""


class TlsPrimaryConnection(_Resting, ReconnectingWhenIdle, SentinelManagedSSLConnection):
    """The same over TLS."""
