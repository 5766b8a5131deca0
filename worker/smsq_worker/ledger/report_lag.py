"""How late the clock is."""

from __future__ import annotations

from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger.timestamps import now_ms

LOOK_AT: Final = 100
"""So many timers that mean "at once", at the most."""


def at_once(client: Client) -> list[str]:
    """List messages whose timer means "at once". Raises redis.RedisError."""
    found: Any = client.zrangebyscore(keys.TIMERS, "-inf", 0, start=0, num=LOOK_AT)
    return list(found)


def lag_s(client: Client) -> float:
    """Tell how long the most overdue timer has been due; 0 where none is.

    One that means "at once" is due since the entry. Raises redis.RedisError.
    """
    now = now_ms(client)
    timed: Any = client.zrangebyscore(keys.TIMERS, "(0", now, start=0, num=1, withscores=True)
    with client.pipeline(transaction=False) as pipe:
        for message_id in at_once(client):
            pipe.hget(keys.message(message_id), "enqueued")
        entered = [float(at) for at in pipe.execute() if at]
    since = [*entered, *(score for _, score in timed)]
    return max(0.0, now - min(since, default=now)) / 1000
