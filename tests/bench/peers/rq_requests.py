"""rq as it comes: a process per job, and so a connection per call."""

from __future__ import annotations

from collections.abc import Iterable

from redis import Redis
from rq import Queue

from bench.peers.session import call
from bench.peers.vendor import CODE, REDIS_URL, TEMPLATE

WORKER = ("rq.cli", "worker", "--quiet", "--url", REDIS_URL)

queue = Queue(connection=Redis.from_url(REDIS_URL))


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one job per number."""
    for phone in phones:
        queue.enqueue(call, phone, TEMPLATE, CODE)
