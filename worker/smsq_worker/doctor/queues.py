"""The broker's queues: what waits in them, and which workers consume them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import redis
from kombu import Connection
from kombu.exceptions import KombuError, OperationalError
from kombu.pidbox import Mailbox
from kombu.transport.redis import Channel

from smsq.app import QUEUES
from smsq.connection import Client
from smsq.redis_urls import as_broker
from smsq_worker.doctor.access import TIMEOUT_S
from smsq_worker.doctor.finding import Finding, counted, error, ok, warning
from smsq_worker.inspection.snapshot import queue_depths

CONTROL: Final = "celery"
"""The exchange of every Celery app's remote control."""
ANSWER_S: Final = 1.0
TRIES: Final = 2


def check(url: str, client: Client) -> Iterator[Finding]:
    """Check the queues, and ask for their workers. Raises redis.RedisError."""
    waiting = queue_depths(client)
    unacked = client.hlen(Channel.unacked_key)
    try:
        workers = ask_workers(url)
    except (KombuError, OperationalError, OSError, redis.RedisError) as problem:
        yield error(
            f"workers could not be asked: {type(problem).__name__}",
            "check the broker's log: it did answer before",
        )
        return
    consumers = Counter(queue for queues in workers.values() for queue in queues)
    ours = [name for name, queues in workers.items() if not queues.isdisjoint(QUEUES)]
    yield _worker_count(len(workers), len(ours))
    for queue, count in waiting.items():
        yield _queue(queue, count, consumers[queue], anyone=bool(ours))
    yield ok(f"{unacked} taken and not yet acknowledged")


def _worker_count(answered: int, ours: int) -> Finding:
    if ours:
        return ok(f"{counted(ours, 'worker')} running")
    what = f"no worker answered within {ANSWER_S:g} s: nothing is being sent"
    if answered:
        what = f"{counted(answered, 'worker')} answered, but none consumes smsq's queues"
    return error(what, "start one: smsq worker")


def _queue(queue: str, waiting: int, consumers: int, *, anyone: bool) -> Finding:
    what = f"{queue}: {waiting} waiting, {counted(consumers, 'worker')}"
    if consumers or not anyone:  # That there is no worker at all has been reported.
        return ok(what)
    advice = f"start a worker that consumes it too: smsq worker -Q {','.join(QUEUES)}"
    return error(what, advice) if waiting else warning(what, advice)


def ask_workers(url: str) -> dict[str, set[str]]:
    """Return each worker that answers, with the queues that it consumes.

    A busy machine may be too slow for the first question, so it is asked twice.
    """
    options = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "max_retries": 1}
    options |= {"interval_start": 0.1, "interval_step": 0}
    # Celery's remote control without Celery, which would prefer CELERY_BROKER_URL to our URL.
    control: Any = Mailbox(CONTROL, type="fanout", accept=["json"])
    broker = as_broker(url)
    with Connection(
        broker.url, ssl=broker.ssl, transport_options=options | broker.options
    ) as connection:
        for _ in range(TRIES):
            answers = control(connection).multi_call("active_queues", timeout=ANSWER_S)
            if answers:
                return {
                    name: {queue["name"] for queue in queues if isinstance(queue, dict)}
                    for answer in answers
                    for name, queues in answer.items()
                }
    return {}
