"""A channel whose connection Celery has closed, and of which a message is not acknowledged yet."""

from __future__ import annotations

from typing import Any

import kombu
import pytest
import redis

from smsq_worker.celery_worker import transport

OURS = "smsq_worker.celery_worker.transport:Transport"
KOMBUS = "kombu.transport.redis:Transport"


@pytest.mark.parametrize("act", ["ack", "requeue", "restore_unacked"])
@pytest.mark.parametrize("kind", [OURS, KOMBUS])
def test_it_raises_a_connection_error(
    environ: dict[str, str], client: redis.Redis, kind: str, act: str
) -> None:
    """As Celery 5.7 closes it when Redis is back; kombu's own then ends the worker.

    Where kombu raises a connection error itself, `SafeChannel._connparams` is needed no more.
    """
    taken: list[Any] = []
    with kombu.Connection(environ["SMSQ_REDIS_URL"], transport=kind) as connection:
        queue = kombu.Queue("q")
        connection.Producer().publish({}, routing_key="q", declare=[queue])
        with connection.Consumer(queue, on_message=taken.append, accept=["json"]):
            connection.drain_events(timeout=10)
            (message,) = taken
            channel, errors = message.channel, connection.connection_errors
            assert isinstance(channel, transport.Channel) is (kind == OURS)
            # The connection lets go of its transport, and the channel of its pools.
            channel._disconnect_pools()
            channel._client = None
            channel.connection.client = None
            expected = errors if kind == OURS else AttributeError
            acts = {
                "ack": lambda: channel.qos.ack(message.delivery_tag),
                "requeue": lambda: channel.qos.reject(message.delivery_tag, requeue=True),
                "restore_unacked": channel.qos.restore_unacked,
            }
            with pytest.raises(expected):
                acts[act]()
            channel.connection.client = connection
