"""kombu's Redis transport, with a gate on what is consumed and every envelope sanitized."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from queue import Empty
from types import SimpleNamespace
from typing import Any, Final

import celery.app.amqp
import kombu
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from smsq.app import QUEUES
from smsq.failpoints import reached
from smsq.transport import SafeChannel
from smsq_worker.celery_worker.envelope import read, sanitize_envelope
from smsq_worker.celery_worker.misplaced import misplaced
from smsq_worker.celery_worker.unacked import Unacked
from smsq_worker.infra import connection_backoff
from smsq_worker.sending.consumer_gate import MAX_TAKEN, ConsumerGate

AT_THE_LIMIT: Final = "#!lua flags=allow-oom\n"
INSIST: Final = f"{AT_THE_LIMIT}return redis.call(unpack(ARGV))"
"""Runs a command though Redis is at its memory limit.

For kombu's notes of wake-ups that it took or gives back, and of this worker's own queues: they are
bounded. If they were refused, the wake-up would be lost and the consumer end, again and again.
"""
REFRESH_BINDING: Final[str] = kombu_redis.REFRESH_BINDING  # type: ignore[attr-defined]

ALONE_S: Final = 1.0
"""So long after a message that is in its queue only, others are taken one at a time."""
SHORT_POLL_S: Final = 0.05
"""How soon a queue that is closed for a moment only is checked again."""


def _what_is_left(message: Any) -> dict[str, Any]:
    """Return an envelope that wakes up only those of a batch that still wait."""
    raw: dict[str, Any] = message._raw  # noqa: SLF001
    wakeup = getattr(message, "wakeup", None)
    if wakeup is None or not wakeup.is_batch or not (waiting := [*wakeup.waiting]):
        return raw
    body = b64encode(json.dumps([[waiting], {}, {}]).encode()).decode()
    return raw | {"body": body, "properties": raw["properties"] | {"body_encoding": "base64"}}


class _GatedChannel(SafeChannel):
    """A channel that consumes from the queues that its gate keeps open."""

    gate: ConsumerGate | None = None
    """kombu sets it from the transport options; a channel that consumes nothing needs none."""
    qos: Any
    client: Any
    sep: str
    brpop_timeout: Any
    active_queues: Any
    _in_poll: Any
    priority_steps: Any
    connection_errors: Any
    _q_for_pri: Callable[[str, int], str]
    _flush_brpop_reauth: Callable[[], object]
    keyprefix_queue: str
    keyprefix_binding_permanent: str
    conn_or_acquire: Callable[..., Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gate = self.gate or ConsumerGate()
        self._others: tuple[bytes, list[bytes], int] = b"", [], 0
        """What was taken together, and where the others begin, behind the one in hand."""
        self._alone_until = 0.0

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Request the next items of one queue, as kombu does for one item."""
        if timeout is None:
            timeout = SHORT_POLL_S if self._gate.crowded() else self.brpop_timeout
        queues = self._gate.open_queues(self.active_queues)
        if not queues:
            return
        names = [self._q_for_pri(queue, pri) for pri in self.priority_steps for queue in queues]
        at_most = self.qos.can_consume_max_estimate()
        count = min(self._gate.room(queues), at_most or MAX_TAKEN)
        if time.monotonic() < self._alone_until:
            count = 1
        self._in_poll = self.client.connection
        self._brpop_sent_at = time.monotonic()
        self._gate.polls(True)
        self._in_poll.send_command(
            "BLMPOP", timeout or 0, len(names), *names, "RIGHT", "COUNT", count
        )

    def _brpop_read(self, **options: Any) -> bool:
        """Deliver the items that were taken, one after another."""
        try:
            try:
                taken = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not taken:
                raise Empty
            reached("after pop")
            name, items = taken
            queue = bytes_to_str(name).rsplit(self.sep, 1)[0]
            self._gate.taken(queue)
            self._deliver(items, name, queue)
            return True
        finally:
            self._in_poll = None
            self._gate.polls(False)
            # kombu's: the connection is idle now, so its token may be renewed.
            self._flush_brpop_reauth()

    def end_poll(self) -> None:
        """Read what is on its way, if the gate is stopped, and put it back."""
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                self._brpop_read()

    def _deliver(self, items: list[bytes], name: bytes, queue: str) -> None:
        """Deliver items of a queue; put back what is too much, as they were batches.

        All of them, if it was cancelled (`control cancel_consumer`) while they came, or this
        process is about to end.
        """
        is_cancelled = queue not in self.active_queues or self._gate.is_stopped
        for n, item in enumerate(items):
            if is_cancelled or (n and not self._gate.takes_more(queue)):
                self._put_back(name, items[n:])
                return
            self._others = name, items, n + 1
            envelope = read(item)
            if envelope is not None:
                self.connection._deliver(envelope, queue)  # noqa: SLF001

    def put_back_the_others(self) -> None:
        """Return what was taken together with an item that is nowhere else to its queue.

        The others may be nowhere else, too, and a process that is killed loses what it has no note
        of: that must not be more than one.
        """
        name, items, start = self._others
        others, items[start:] = items[start:], []
        self._alone_until = time.monotonic() + ALONE_S
        if others:
            self._put_back(name, others)

    def _put_back(self, name: bytes, items: list[bytes]) -> None:
        """Push items back to where they were taken from, in their order."""
        with self.conn_or_acquire() as client:
            self.insist(client, "RPUSH", name, *reversed(items))

    def requeue(self, message: Any, pipe: Any) -> None:
        """Requeue a message; one of a batch wakes up those that still wait."""
        delivery = message.delivery_info
        exchange, routing_key = delivery["exchange"], delivery["routing_key"]
        self._do_restore_message(_what_is_left(message), exchange, routing_key, pipe)

    def _do_restore_message(self, *args: Any, **_: Any) -> None:
        """Requeue a message at the end from which it was taken, so that it keeps its place.

        kombu puts one that was rejected behind all others.
        """
        payload, exchange, routing_key, pipe = args[:4]
        restore = super()._do_restore_message  # type: ignore[misc]
        # It needs no more memory than before.
        insisting = SimpleNamespace(rpush=partial(self.insist, pipe, "RPUSH"))
        restore(payload, exchange, routing_key, insisting, leftmost=False)

    @cached_property
    def _insist(self) -> Any:
        return self._create_client().register_script(INSIST)

    def insist(self, client: Any, *command: Any) -> None:
        """Run a command, or add it to a pipeline, though Redis is at its memory limit."""
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
            if queue in QUEUES:
                raise
            # An answer to an operator's command.
            with self.conn_or_acquire() as client:
                self.insist(client, "LPUSH", queue, dumps(message))


class Channel(_GatedChannel, kombu_redis.Channel):
    """A channel to a server."""

    QoS = Unacked
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "idle_s", "gate")
    connection_class = connection_backoff.Connection
    connection_class_ssl = connection_backoff.TlsConnection


class SentinelChannel(_GatedChannel, kombu_redis.SentinelChannel):
    """A channel to the server that Sentinels name."""

    QoS = Unacked
    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, "idle_s", "gate")
    connection_class = connection_backoff.PrimaryConnection
    connection_class_ssl = connection_backoff.TlsPrimaryConnection


class _SafeTransport:
    client: Any
    _avail_channels: list[Any]
    close_connection: Callable[[Any], None]

    def establish_connection(self) -> Any:
        """Connect to a server that takes writes, where messages are to be taken from it.

        One that became a replica, lacks replicas or cannot save answers a PING: a worker would
        connect to it and lose it again five times a second. So it is as one that cannot be reached,
        for which Celery waits longer from try to try.
        """
        connection = super().establish_connection()  # type: ignore[misc]
        if self.client.transport_options.get("gate"):
            try:
                for channel in self._avail_channels:
                    # What kombu does next, and then leaves out as it was done a moment ago.
                    channel.qos.restore_visible(
                        num=channel.unacked_restore_limit, interval=channel.unacked_restore_throttle
                    )
            except RedisError as error:
                self.close_connection(connection)
                is_replica = isinstance(error, ReadOnlyError)
                why = "the server has become a replica" if is_replica else str(error).rstrip(".")
                raise RedisConnectionError(why) from error
        return connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Register the loop, and tell the gate whether it goes on."""
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        if gate := connection.client.transport_options.get("gate"):
            loop.on_tick.add(gate.loop_goes)
            loop.on_close.add(gate.loop_ends)

    def _deliver(self, message: Any, queue: str | None) -> None:
        # Other queues are remote control's, whose messages are Celery's own.
        if queue and queue in QUEUES:
            message = sanitize_envelope(message, queue)
            if not misplaced.admits(message, queue):
                return
        super()._deliver(message, queue)  # type: ignore[misc]


class Transport(_SafeTransport, kombu_redis.Transport):
    """The transport of the workers."""

    Channel = Channel


class SentinelTransport(_SafeTransport, kombu_redis.SentinelTransport):
    """The same, to the server that Sentinels name."""

    Channel = SentinelChannel


class Connection(kombu.Connection):
    """A connection that reconnects soon, and shows no password."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, try after try; kombu's pauses of 2, 4, 6 s are longer than a failover."""
        pauses = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 10}
        return super().ensure_connection(*args, **pauses | options)

    def info(self) -> dict[str, Any]:
        """Describe the connection in a worker's statistics, which Flower shows.

        Without the URLs and passwords of Sentinels, which kombu shows, and what is no JSON.
        """
        shown = super().info()
        shown.pop("alternates", None)
        hidden = {"sentinel_kwargs", "gate"}
        options = shown["transport_options"].items()
        return shown | {"transport_options": {k: v for k, v in options if k not in hidden}}


class AMQP(celery.app.amqp.AMQP):
    """Makes Celery's connections of our kind."""

    Connection = Connection


def install() -> None:
    """Use our transports for this process' redis://, rediss:// and sentinel:// URLs.

    Not by Celery's broker_transport, which Flower cannot read, nor by the class of the connection,
    which kombu's pools replace.
    """
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
