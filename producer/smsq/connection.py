"""How every part of smsq talks to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from smsq.errors import LedgerUnavailable
from smsq.settings import shown_url

Client = redis.Redis


def connect(url: str) -> Client:
    """Give a client that connects when it is first used.

    Without timeouts a frozen server would block the caller for good. Commands are sent again
    after a lost connection; every script of ours is safe against that.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), 3),
    )


@contextmanager
def mapped_errors(url: str) -> Iterator[None]:
    """Turn what redis-py raises into LedgerUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise LedgerUnavailable(
            f"the ledger at {shown_url(url)} (SMSQ_REDIS_URL) did not take the command: {error}"
        ) from error
