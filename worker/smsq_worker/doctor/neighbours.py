"""Who else lives in a database: other applications' queues and keys.

The keys of others are counted and never named: who knows what is in a name. Names of queues are
told, because that is how an operator finds their owner.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kombu.transport.redis import Channel

from smsq.app import QUEUES
from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, ok, warning
from smsq_worker.ledger.backlog import is_ledger_key

LOOK_S: Final = 1.0
AT_ONCE: Final = 1000
AT_MOST: Final = 20
NAMED: Final = 5

SEP: Final = Channel.sep
BINDING: Final = "_kombu.binding."
SHARED: Final = ("celery.pidbox", "reply.celery.pidbox", "celeryev")
"""Exchanges that every Celery app has: remote control and events."""


@dataclass
class Seen:
    """What a look over a database's keys has found."""

    keys: int = 0
    complete: bool = False
    foreign_keys: int = 0
    foreign_exchanges: set[str] = field(default_factory=set)

    def add(self, key: str) -> None:
        """Sort one key in."""
        self.keys += 1
        if key.startswith(BINDING):
            exchange = key.removeprefix(BINDING)
            if exchange not in (*QUEUES, *SHARED):
                self.foreign_exchanges.add(exchange)
        elif not _is_ours(key):
            self.foreign_keys += 1


def neighbours(client: Client) -> Iterator[Finding]:
    """Look for keys that are not smsq's. Raises redis.RedisError."""
    seen = _look(client)
    queues = _queues(client, seen)
    among = "" if seen.complete else f" among the {seen.keys} keys looked at"
    if queues:
        named = ", ".join(queues[:NAMED]) + ", ..." * (len(queues) > NAMED)
        yield warning(
            f"other applications' queues in this database{among}: {named}",
            "give smsq a database of its own: a worker of theirs with a shorter visibility "
            "timeout would have smsq's messages delivered again and again",
        )
    elif seen.foreign_keys:
        yield warning(
            f"keys of other owners in this database{among}: {seen.foreign_keys}",
            "give smsq a database of its own, which nobody flushes or fills up",
        )
    else:
        yield ok(f"no keys of other owners in this database{among}")


def _look(client: Client) -> Seen:
    """Go over the keys, for a bounded time: a busy ledger has millions."""
    seen, cursor, end = Seen(), 0, time.monotonic() + LOOK_S
    while time.monotonic() < end:
        page: Any = client.scan(cursor, count=AT_ONCE)
        cursor, found = int(page[0]), page[1]
        for key in found:
            seen.add(key)
        if not cursor:
            seen.complete = True
            break
    return seen


def _is_ours(key: str) -> bool:
    """Tell smsq's keys, and those that all apps of a database share, from others."""
    name = key.partition(SEP)[0]
    shared = key.startswith(("unacked", "_kombu.binding_", "celeryev."))
    return is_ledger_key(key) or name in QUEUES or shared or name.endswith(".pidbox")


def _queues(client: Client, seen: Seen) -> list[str]:
    """Name the queues that are bound to foreign exchanges; smsq's may be, by other producers."""
    names: set[str] = set()
    for exchange in sorted(seen.foreign_exchanges)[:AT_MOST]:
        bound: Any = client.srandmember(f"{BINDING}{exchange}", AT_MOST)
        names |= {str(member).rpartition(SEP)[2] for member in bound}
    return sorted(filter(str.isprintable, names - set(QUEUES)))
