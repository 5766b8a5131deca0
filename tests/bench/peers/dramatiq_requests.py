"""Dramatiq with a requests session per thread."""

from __future__ import annotations

from collections.abc import Iterable

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.session import call
from bench.peers.vendor import CODE, REDIS_URL, TEMPLATE

WORKER = ("dramatiq", "bench.peers.dramatiq_requests", "--processes", "1", "--threads", "64")

dramatiq.set_broker(RedisBroker(url=REDIS_URL))
send_sms = dramatiq.actor(call, actor_name="send_sms")


def enqueue(phones: Iterable[str]) -> None:
    """Enqueue one message per number."""
    for phone in phones:
        send_sms.send(phone, TEMPLATE, CODE)
