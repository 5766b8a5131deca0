"""kombu's Redis transport, which asks the gate, and takes no envelope as it is."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

import celery.app.amqp
import kombu
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis.exceptions import OutOfMemoryError

from smsq.app import QUEUES
from smsq.transport import SafeChannel
from smsq_worker.celery_worker.envelope import readable, sound
from smsq_worker.infra import connection_backoff
from smsq_worker.sending.consumer_gate import GATE

AT_THE_LIMIT: Final = "#!lua flags=allow-oom\n"
INSIST: Final = f"{AT_THE_LIMIT}return redis.call(unpack(ARGV))"
"""Does a command though Redis is at its memory limit.

For what kombu notes of a wake-up that it took, or gives back, and of this worker's own queues: it
is bounded. Refused, it would lose the wake-up and end the consumer, again and again.
"""

SHORT_POLL_S: Final = 0.1
"""How soon a queue is looked at again that is closed for a moment only."""


class OpenQueues:
    """The queues in their order of service, without those that the gate keeps closed.

    It has the form of kombu's own cycles (kombu.utils.scheduling).
    """

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """Take from these queues from now on."""
        self._queues = list(queues)

    def consume(self, n: int) -> list[str]:
        """Give the queues to take the next message from."""
        return GATE.open_queues(self._queues[:n])

    def rotate(self, last_used: str) -> None:
        """Note from which queue a message was taken."""
        GATE.taken(last_used)


REFRESH_BINDING: Final[str] = kombu_redis.REFRESH_BINDING  # type: ignore[attr-defined]


class Unacked(kombu_redis.QoS):
    """kombu's notes of what was taken, which are written at the memory limit, too."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that a message was taken."""
        try:
            super().append(message, delivery_tag)
        except OutOfMemoryError:
            channel: Any = self.channel
            delivery = message.delivery_info
            taken = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])  # noqa: SLF001
            with channel.conn_or_acquire() as client, client.pipeline() as pipe:
                channel.insist(pipe, "ZADD", self.unacked_index_key, time.time(), delivery_tag)
                channel.insist(pipe, "HSET", self.unacked_key, delivery_tag, taken)
                pipe.execute()
            super(kombu_redis.QoS, self).append(message, delivery_tag)

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Give back what workers have taken that died; at the limit later, as a lock is needed."""
        with suppress(OutOfMemoryError):
            super().restore_visible(*args, **options)


class _Pushing:
    """A pipeline for what is given back: that takes no more memory than it did before."""

    def __init__(self, insist: Callable[..., Any], pipe: Any) -> None:
        self._insist = insist
        self._pipe = pipe

    def rpush(self, key: str, item: Any) -> None:
        self._insist(self._pipe, "RPUSH", key, item)


_left: Final[dict[str, Sequence[str]]] = {}
LEFT_AT_MOST: Final = 1000


def leave(delivery_tag: str, ids: Sequence[str]) -> None:
    """Have a batch that is given back wake up these alone.

    The others have been called, and those that go again have wake-ups of their own. If this is
    forgotten the copies are refused.
    """
    if len(_left) >= LEFT_AT_MOST:  # of those that never were given back
        _left.clear()
    if ids:
        _left[delivery_tag] = ids


def _without_those_gone(payload: dict[str, Any]) -> dict[str, Any]:
    properties = payload.get("properties") or {}
    ids = _left.pop(str(properties.get("delivery_tag")), None)
    if ids is None:
        return payload
    body = b64encode(json.dumps([[ids], {}, {}]).encode()).decode()
    return payload | {"body": body, "properties": properties | {"body_encoding": "base64"}}


class _GatedChannel(SafeChannel):
    """A channel that takes from open queues."""

    sep: str
    keyprefix_queue: str
    keyprefix_binding_permanent: str
    conn_or_acquire: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_cycle = OpenQueues()

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        if asynchronous:
            client.set_response_callback("BRPOP", readable)
        return client

    def _brpop_start(self, timeout: float | None = None) -> None:
        if timeout is None and GATE.crowded():
            timeout = SHORT_POLL_S
        super()._brpop_start(timeout)  # type: ignore[misc]

    def _do_restore_message(self, *args: Any, **_: Any) -> None:
        """Give a message back to the end from which it was taken: it keeps its place.

        kombu puts one that was rejected behind all others.
        """
        payload, exchange, routing_key, pipe = args[:4]
        restore = super()._do_restore_message  # type: ignore[misc]
        left = _without_those_gone(payload)
        restore(left, exchange, routing_key, _Pushing(self.insist, pipe), leftmost=False)

    @cached_property
    def _insist(self) -> Any:
        return self._create_client().register_script(INSIST)

    def insist(self, client: Any, *command: Any) -> None:
        """Do a command, or add it to a pipeline, though Redis is at its memory limit."""
        self._insist(args=command, client=client)

    @cached_property
    def _refresh_binding(self) -> Any:
        return self._create_client().register_script(AT_THE_LIMIT + REFRESH_BINDING)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]
        except OutOfMemoryError:
            member = self.sep.join([routing_key or "", pattern or "", queue or ""])
            with self.conn_or_acquire() as client, client.pipeline() as pipe:
                for name in (self.keyprefix_queue, self.keyprefix_binding_permanent):
                    self.insist(pipe, "SADD", name % (exchange,), member)
                pipe.execute()

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        try:
            super()._put(queue, message, **kwargs)  # type: ignore[misc]
        except OutOfMemoryError:
            # An answer to an operator's command.
            if queue in QUEUES:
                raise
            with self.conn_or_acquire() as client:
                self.insist(client, "LPUSH", queue, dumps(message))


class Channel(_GatedChannel, kombu_redis.Channel):
    """A channel to a server."""

    QoS = Unacked
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "idle_s")
    connection_class = connection_backoff.Connection
    connection_class_ssl = connection_backoff.TlsConnection


class SentinelChannel(_GatedChannel, kombu_redis.SentinelChannel):
    """A channel to the server that Sentinels name."""

    QoS = Unacked
    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, "idle_s")
    connection_class = connection_backoff.PrimaryConnection
    connection_class_ssl = connection_backoff.TlsPrimaryConnection


class _SafeTransport:
    def _deliver(self, message: Any, queue: str | None) -> None:
        # Other queues are remote control's, whose messages are Celery's own.
        safe = sound(message, queue) if queue and queue in QUEUES else message
        super()._deliver(safe, queue)  # type: ignore[misc]


class Transport(_SafeTransport, kombu_redis.Transport):
    """The transport of the workers."""

    Channel = Channel


class SentinelTransport(_SafeTransport, kombu_redis.SentinelTransport):
    """The same, to the server that Sentinels name."""

    Channel = SentinelChannel


class Connection(kombu.Connection):
    """A connection that comes back soon, and shows no password."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, try after try; kombu's pauses of 2, 4, 6 s are longer than a failover."""
        pauses = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 10}
        return super().ensure_connection(*args, **pauses | options)

    def info(self) -> dict[str, Any]:
        """Describe the connection, as a worker's statistics do, which Flower shows.

        kombu's tells the URLs of all Sentinels as they are, and how to log in there.
        """
        told = super().info()
        told.pop("alternates", None)
        options = dict(told["transport_options"])
        options.pop("sentinel_kwargs", None)
        return told | {"transport_options": options}


class AMQP(celery.app.amqp.AMQP):
    """What Celery makes connections with."""

    Connection = Connection


def install() -> None:
    """Let this process' redis://, rediss:// and sentinel:// URLs mean our transports.

    By the alias and not by Celery's broker_transport, which Flower cannot read.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
