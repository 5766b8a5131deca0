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
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _, ngettext
from smsq_worker.inspection.snapshot import queue_depths

CONTROL: Final = "celery"
"""The exchange of every Celery app's remote control."""
BROKER_ERRORS: Final = (KombuError, OperationalError, OSError, redis.RedisError)
ANSWER_S: Final = 1.0
TRIES: Final = 2


def check(url: str, client: Client) -> Iterator[Finding]:
    """Check the queues, and ask for their workers. Raises redis.RedisError."""
    waiting = queue_depths(client)
    unacked = client.hlen(Channel.unacked_key)
    workers = ask_workers(url)
    if isinstance(workers, Finding):
        yield workers
        return
    consumers = Counter(queue for _name, queues in workers for queue in queues)
    ours = [name for name, queues in workers if not queues.isdisjoint(QUEUES)]
    yield _worker_count(len(workers), len(ours))
    yield from _same_names(Counter(ours))
    for queue, count in waiting.items():
        yield _queue(queue, count, consumers[queue], anyone=bool(ours))
    yield ok(_("{n} taken and not yet acknowledged", n=unacked))


def _worker_count(answered: int, ours: int) -> Finding:
    if ours:
        return ok(ngettext("{n} worker running", "{n} workers running", ours))
    what = _("no worker answered within {s:g} s: nothing is being sent", s=ANSWER_S)
    if answered:
        what = ngettext(
            "{n} worker answered, but none consumes smsq's queues",
            "{n} workers answered, but none consumes smsq's queues",
            answered,
        )
    return error(what, _("start one: smsq worker"))


def _same_names(names: Counter[str]) -> Iterator[Finding]:
    for name, count in names.items():
        if count > 1:
            what = _("{n} workers are called {name}", n=count, name=name)
            yield warning(
                what,
                _(
                    "give each its own name, with smsq worker --hostname NAME: Flower and remote "
                    "control take them for one, and on one machine nobody notices that one is stuck"
                ),
            )


def workers_words(count: int) -> str:
    """Return how many workers there are."""
    return ngettext("{n} worker", "{n} workers", count)


def _queue(queue: str, waiting: int, consumers: int, *, anyone: bool) -> Finding:
    workers = workers_words(consumers)
    what = _("{queue}: {n} waiting, {workers}", queue=queue, n=waiting, workers=workers)
    if consumers or not anyone:  # That there is no worker at all has been reported.
        return ok(what)
    queues = ",".join(QUEUES)
    advice = _("start a worker that consumes it too: smsq worker -Q {queues}", queues=queues)
    return error(what, advice) if waiting else warning(what, advice)


def ask_workers(url: str) -> list[tuple[str, set[str]]] | Finding:
    """Return each worker that answers, with the queues that it consumes; two may have one name.

    Where the broker fails, that is the finding.
    """
    try:
        return _ask_workers(url)
    except BROKER_ERRORS as problem:
        what = _("workers could not be asked: {error}", error=type(problem).__name__)
        return error(what, _("check the broker's log: it did answer before"))


def _ask_workers(url: str) -> list[tuple[str, set[str]]]:
    """Return the same, asked for twice: a busy machine may be too slow for the first question."""
    options = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S, "max_retries": 1}
    options |= {"interval_start": 0.1, "interval_step": 0}
    # Celery's remote control without Celery, which would prefer CELERY_BROKER_URL to our URL.
    control: Any = Mailbox(CONTROL, type="fanout", accept=["json"])
    broker = as_broker(url)
    with Connection(
        broker.url, ssl=broker.ssl, transport_options=options | broker.options
    ) as connection:
        for _try in range(TRIES):
            answers = control(connection).multi_call("active_queues", timeout=ANSWER_S)
            if answers:
                return [
                    (name, {queue["name"] for queue in queues if isinstance(queue, dict)})
                    for answer in answers
                    for name, queues in answer.items()
                ]
    return []
