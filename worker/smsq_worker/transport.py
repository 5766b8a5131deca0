"""kombu's Redis transport, which asks the gate, and takes no envelope as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import celery.app.amqp
import kombu
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from smsq.app import QUEUES
from smsq.transport import SafeChannel
from smsq_worker import resting
from smsq_worker.envelope import readable, sound
from smsq_worker.gate import GATE

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


class _GatedChannel(SafeChannel):
    """A channel that takes from open queues."""

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
        super()._do_restore_message(*args[:4], leftmost=False)  # type: ignore[misc]


class Channel(_GatedChannel, kombu_redis.Channel):
    """A channel to a server."""

    from_transport_options = (*kombu_redis.Channel.from_transport_options, "idle_s")
    connection_class = resting.Connection
    connection_class_ssl = resting.TlsConnection


class SentinelChannel(_GatedChannel, kombu_redis.SentinelChannel):
    """A channel to the server that Sentinels name."""

    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, "idle_s")
    connection_class = resting.PrimaryConnection
    connection_class_ssl = resting.TlsPrimaryConnection


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
