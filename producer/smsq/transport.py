"""kombu's Redis transport over smsq's connections: they keep deadlines, and do not lie idle.

The producer's app names it; no alias of kombu's is changed, so that the host's apps keep theirs.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from smsq import redis_urls
from smsq.redis_connections import Connection, TlsConnection
from smsq.sentinel import PrimaryConnection, TlsPrimaryConnection, primary_pool
from smsq.settings import IDLE_S


class SafeChannel:
    """A channel that raises a connection error when closed, and whose connections do not lie idle.

    kombu's own raises an AttributeError then. A connection error makes a worker reconnect and a
    producer retry; the AttributeError would end the worker, and reach the producer's caller.
    """

    connection: Any
    pool: Any
    idle_s = IDLE_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client: Any = None
        super().__init__(*args, **kwargs)

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return one client for the pool: kombu makes one for each command, which costs more."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()  # type: ignore[misc]
        return self._client

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection was closed")
        return super()._connparams(*args, **kwargs) | {"idle_s": self.idle_s}  # type: ignore[misc]


class _PublishingChannel(SafeChannel):
    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ARG002
        # A synchronous client will do: nothing is consumed over it.
        return super()._create_client()


class Channel(_PublishingChannel, kombu_redis.Channel):
    """A channel to a server."""

    from_transport_options = (*kombu_redis.Channel.from_transport_options, "idle_s")
    connection_class = Connection
    connection_class_ssl = TlsConnection


class SentinelChannel(_PublishingChannel, kombu_redis.SentinelChannel):
    """A channel to the server that Sentinels name."""

    from_transport_options = (
        *kombu_redis.SentinelChannel.from_transport_options,
        "idle_s",
        "sentinels_url",
    )
    connection_class = PrimaryConnection
    connection_class_ssl = TlsPrimaryConnection
    sentinels_url: str

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        params = self._connparams(asynchronous)
        # They are of the one Sentinel that kombu knows.
        for name in ("host", "port"):
            params.pop(name, None)
        pool: Any = primary_pool(redis_urls.read(self.sentinels_url), **params)
        self._sentinel_manager = pool.sentinel_manager
        return pool


class Transport(kombu_redis.Transport):
    """The transport of producers."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):
    """The same, to the server that Sentinels name."""

    Channel = SentinelChannel
