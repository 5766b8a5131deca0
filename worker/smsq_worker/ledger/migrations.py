"""The form of the ledger's data, and how a start brings it to the one that this release knows.

`smsq:schema` holds two numbers. `version` is the form; a ledger that was in use before there was
this key has version 1. `readable_by` is the oldest version whose workers may work here, and each
act of the ledger checks it first (base.lua): from the moment it is raised, older workers change
nothing, whenever they were started. Release 0.1.0 does not check.

A start never raises `readable_by`: an upgrade alone shuts nobody out, and the way back stays open.
The first use of a feature that older workers would spoil raises it (`require`), to the version
whose workers know how to leave the feature's messages alone.

Producers do not check: what any of them enters, and the API's inbox, stay valid for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from smsq import keys
from smsq.connection import Client, mapped_errors, run
from smsq.errors import SettingsError
from smsq.failpoints import reached
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.errors import too_new
from smsq_worker.ledger.reading import asked
from smsq_worker.ledger.scripts import Scripts

log = logging.getLogger(__name__)

VERSION: Final = keys.VERSION
"""The version that this release knows."""
UNMARKED: Final = 1
"""The version of a ledger that does not say it."""
SLICE: Final = 500
_SIGNS_OF_USE: Final = (
    *(keys.COUNTERS, keys.RATE, keys.TIMERS, keys.INBOX, keys.NOTICES),
    *(keys.PAUSES, keys.SUPPRESSED, keys.LOOKUP),
)
"""Whoever used a ledger left one of these."""


class Schema(NamedTuple):
    """The form of a ledger's data."""

    version: int
    readable_by: int


@dataclass(frozen=True, slots=True)
class Migration:
    """What leads to a version from the one before."""

    version: int
    name: str
    slices: Callable[[Client, Scripts], Iterator[None]] = lambda *_: iter(())
    """The work, cut up so that no act keeps others waiting. Several workers may do a slice at once,
    again after a kill, and while workers of older versions go on."""


def _note_due(client: Client, scripts: Scripts) -> Iterator[None]:
    note_due = scripts.act("note_due")
    cursor: Any = 0
    while True:
        cursor, timers = client.zscan(keys.TIMERS, cursor, count=SLICE)
        run(client, note_due, [message_id for message_id, _ in timers])
        yield
        if not cursor:
            return


MIGRATIONS: Final = (
    Migration(2, "scheduled messages say when they are due", slices=_note_due),
    Migration(3, "what forbids sending is obeyed"),
)


def read(client: Client) -> Schema | None:
    """Read a ledger's schema; None where it is empty. Raises redis.RedisError."""
    version, readable_by = client.hmget(keys.SCHEMA, ["version", "readable_by"])
    if version is not None and readable_by is not None:
        return Schema(int(version), int(readable_by))
    return Schema(UNMARKED, UNMARKED) if client.exists(*_SIGNS_OF_USE) else None


def check(client: Client, url: str) -> None:
    """Refuse a ledger that is too new for this release, with SettingsError. Changes nothing.

    Raises LedgerUnavailable.
    """
    found = asked(url, read, client)
    if found and found.readable_by > VERSION:
        raise SettingsError([too_new(url, found.readable_by)])


def migrate(client: Client, rules: Rules, migrations: Sequence[Migration] = MIGRATIONS) -> Schema:
    """Migrate a ledger to the newest form, or leave a newer one that may be worked in.

    Many workers may do this at once, and be killed at any point: the next start goes on. Raises
    SettingsError where the ledger is too new, and LedgerUnavailable.
    """
    check(client, rules.url)
    scripts = Scripts(rules)
    raise_to = partial(_raised, client, scripts, max(one.version for one in migrations))
    with mapped_errors(rules.url):
        found = raise_to()
        for migration in migrations:
            if found.version < migration.version:
                found = _migrated(client, scripts, raise_to, migration)
    return found


def require(client: Client, rules: Rules, version: int) -> Schema:
    """Raise `readable_by` to a version, at the first use of what older workers would spoil.

    Raises LedgerUnavailable. Nothing lowers it again.
    """
    return asked(rules.url, _raised, client, Scripts(rules), VERSION, readable_by=version)


def _raised(
    client: Client, scripts: Scripts, newest: int, *, version: int = 0, readable_by: int = 0
) -> Schema:
    """Raise a ledger's schema, and return it; an empty ledger has the newest."""
    args, names = [newest, version, readable_by], [keys.SCHEMA, *_SIGNS_OF_USE]
    return Schema(*run(client, scripts.act("schema"), args, keys=names))


def _migrated(
    client: Client, scripts: Scripts, raise_to: Callable[..., Schema], migration: Migration
) -> Schema:
    reached("before migration")
    for _ in migration.slices(client, scripts):
        reached("in migration")
        if (now := raise_to()).version >= migration.version:  # another worker was quicker
            return now
    reached("after migration")
    now = raise_to(version=migration.version)
    log.info("the ledger is at schema %d: %s", migration.version, migration.name)
    return now
