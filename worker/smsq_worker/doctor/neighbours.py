"""What else is in a database: other applications' queues and keys.

Foreign keys are counted and never named, as a name may hold anything. Names of queues are reported,
because they lead an operator to the owner.
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
from smsq_worker.i18n import N_, _
from smsq_worker.ledger.backlog import is_ledger_key

SCAN_S: Final = 1.0
PAGE: Final = 1000
AT_MOST: Final = 20
NAMED: Final = 5

SEP: Final = Channel.sep
BINDING: Final = "_kombu.binding."
SHARED: Final = ("celery.pidbox", "reply.celery.pidbox", "celeryev")
"""Exchanges that every Celery app has: remote control and events."""
OWN_DATABASE: Final = N_(
    "give smsq its own database: a foreign worker with a shorter visibility timeout would have "
    "smsq's messages delivered again and again"
)


@dataclass
class Seen:
    """What a scan of a database's keys has found."""

    notify_queue: str = ""
    """Where smsq puts the application's tasks, if that is in this database."""
    keys: int = 0
    complete: bool = False
    foreign_keys: int = 0
    foreign_exchanges: set[str] = field(default_factory=set)

    def add(self, key: str) -> None:
        """Count one key."""
        self.keys += 1
        if key.startswith(BINDING):
            exchange = key.removeprefix(BINDING)
            if exchange not in (*QUEUES, *SHARED, self.notify_queue):
                self.foreign_exchanges.add(exchange)
        elif not (_is_ours(key) or key == self.notify_queue):
            self.foreign_keys += 1


def check(client: Client, notify_queue: str) -> Iterator[Finding]:
    """Check for keys that are not smsq's. Raises redis.RedisError.

    `notify_queue` is one in this database into which smsq puts tasks of `notify=`.
    """
    seen = _scan(client, notify_queue)
    queues = _queues(client, seen)
    among = "" if seen.complete else _(" among the {n} keys scanned", n=seen.keys)
    if queues:
        named = ", ".join(queues[:NAMED]) + ", ..." * (len(queues) > NAMED)
        what = _(
            "other applications' queues in this database{among}: {names}", among=among, names=named
        )
        yield warning(what, _(OWN_DATABASE))
    elif seen.foreign_keys:
        what = _(
            "keys of other owners in this database{among}: {n}", among=among, n=seen.foreign_keys
        )
        yield warning(what, _("give smsq its own database, which nobody flushes or fills up"))
    else:
        yield ok(_("no keys of other owners in this database{among}", among=among))


def _scan(client: Client, notify_queue: str) -> Seen:
    """Scan the keys, for a limited time: a busy ledger has millions."""
    seen, cursor, end = Seen(notify_queue), 0, time.monotonic() + SCAN_S
    while time.monotonic() < end:
        page: Any = client.scan(cursor, count=PAGE)
        cursor, found = int(page[0]), page[1]
        for key in found:
            seen.add(key)
        if not cursor:
            seen.complete = True
            break
    return seen


def _is_ours(key: str) -> bool:
    """Return whether a key is smsq's, or one that all Celery apps of a database share."""
    name = key.partition(SEP)[0]
    shared = key.startswith(("unacked", "_kombu.binding_", "celeryev."))
    return is_ledger_key(key) or name in QUEUES or shared or name.endswith(".pidbox")


def _queues(client: Client, seen: Seen) -> list[str]:
    """Return foreign queues bound to foreign exchanges; other producers may bind smsq's, too."""
    names: set[str] = set()
    for exchange in sorted(seen.foreign_exchanges)[:AT_MOST]:
        bound: Any = client.srandmember(f"{BINDING}{exchange}", AT_MOST)
        names |= {str(member).rpartition(SEP)[2] for member in bound}
    return sorted(filter(str.isprintable, names - {*QUEUES, seen.notify_queue}))
