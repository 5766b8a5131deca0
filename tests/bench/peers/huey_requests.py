"""Huey with a requests session per thread."""

from __future__ import annotations

from collections.abc import Iterable

from huey import RedisHuey

from bench.peers.session import call
from bench.peers.vendor import CODE, REDIS_URL, TEMPLATE

WORKER = (
    *("huey.bin.huey_consumer", "bench.peers.huey_requests.huey"),
    *("--worker-type", "thread", "--workers", "64", "--quiet"),
)

huey = RedisHuey("bench", url=REDIS_URL)
send_sms = huey.task()(call)


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one task per number."""
    for phone in phones:
        send_sms(phone, TEMPLATE, CODE)
