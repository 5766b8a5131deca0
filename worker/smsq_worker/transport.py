"""kombu's Redis transport, without its crash on a connection that was closed meanwhile."""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(kombu_redis.Channel):
    """A channel that says that it is closed.

    kombu's own looks up an attribute of None then. The AttributeError ends a worker (celery 5.7
    at each restart of Redis, 5.6 when it is stopped while Redis is away), where a connection
    error makes it reconnect.
    """

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection was closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]


class Transport(kombu_redis.Transport):
    """The transport of the workers."""

    Channel = Channel


def install() -> None:
    """Let this process' redis:// and rediss:// URLs mean our transport.

    By the alias and not by Celery's broker_transport, which Flower cannot read.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
