"""What is overdue, held, parked or set aside. Functions raise redis.RedisError.

How many messages wait to be sent: `Control.live`, in admin.py.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger.reading import each
from smsq_worker.ledger.timestamps import now_ms

SCANNED: Final = 100
"""How many timers that mean "at once" are read at most."""


class Waiting(NamedTuple):
    """What waits for a decision, or for its message."""

    held: int
    """Messages."""
    parked: int
    """Mids with reports."""
    inbox: int
    """Reports that are to be reconciled."""


def is_ledger_key(key: str) -> bool:
    """Return whether a key of a database is the ledger's."""
    return key.startswith(keys.PREFIX)


def overdue(client: Client) -> tuple[float, int]:
    """Return for how long the most overdue timer has been due, 0 where none is, and their count."""
    return lag_s(client), client.zcount(keys.TIMERS, "-inf", now_ms(client))


def lag_s(client: Client) -> float:
    """Return for how long the most overdue timer has been due; 0 where none is.

    One that means "at once" is due since the entry.
    """
    now = now_ms(client)
    timed: Any = client.zrangebyscore(keys.TIMERS, "(0", now, start=0, num=1, withscores=True)
    entered = [float(at) for at in _of_those_at_once(client, "enqueued") if at]
    since = [*entered, *(score for _, score in timed)]
    return max(0.0, now - min(since, default=now)) / 1000


def overdue_reports(client: Client) -> tuple[float, int]:
    """Return the same as `overdue`, of reports that wait in the inbox."""
    now = now_ms(client)
    first: Any = client.zrangebyscore(keys.INBOX, "(0", now, start=0, num=1, withscores=True)
    return (now - first[0][1]) / 1000 if first else 0, client.zcount(keys.INBOX, "-inf", now)


def unpublished(client: Client) -> int:
    """Count messages whose producer reached the ledger but not the broker: SCANNED at most."""
    return sum(published == "0" for published in _of_those_at_once(client, "published"))


def count_waiting(client: Client) -> Waiting:
    """Count what is held, parked, or to be reconciled."""
    return Waiting(*map(client.zcard, (keys.HELD, keys.PARKED, keys.INBOX)))


def set_aside(client: Client, at_most: int) -> tuple[list[str], int]:
    """Return the newest entries that no act can process, "<what>:<name>", and their count."""
    newest: Any = client.zrevrange(keys.BAD, 0, at_most - 1)
    return newest, client.zcard(keys.BAD)


def _of_those_at_once(client: Client, field: str) -> list[Any]:
    ids: Any = client.zrangebyscore(keys.TIMERS, "-inf", 0, start=0, num=SCANNED)
    return each(client, "HGET", map(keys.message, ids), field)
