"""Which form the ledger's data has, and how a start brings it to the one that this release knows.

`smsq:schema` holds two numbers. `version` is the form; a ledger that was in use before there was
this key has version 1. `readable_by` is the oldest version whose workers may work here, and each
act of the ledger looks at it first (common.lua): from the moment it is raised, older workers
change nothing, whenever they were started. Release 0.1.0 does not look.

A start never raises `readable_by`: an upgrade alone shuts nobody out, and the way back stays open.
The first use of a feature that older workers would spoil raises it (`require`), to the version
whose workers know how to leave the feature's messages alone.

Producers do not look: what any of them enters, and the door's inbox, stay valid for good.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as release_of
from typing import Any, Final, NamedTuple

import redis

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.errors import LedgerUnavailable, SettingsError
from smsq.failpoints import reached
from smsq.settings import shown_url
from smsq_worker.config.rules import Rules
from smsq_worker.ledger.scripts import Scripts

log = logging.getLogger(__name__)

UNMARKED: Final = 1
"""The version of a ledger that does not say it."""
SLICE: Final = 500
SET_ASIDE: Final = "set aside"
"""How such an event begins, see lua/apart.lua."""
_OF_A_SCRIPT: Final = re.compile(
    r"^(?!.*\b(OOM|MISCONF|NOREPLICAS|READONLY|NOPERM|MASTERDOWN)\b).*user_script", re.DOTALL
)
_SIGNS_OF_USE: Final = (
    *(keys.COUNTERS, keys.RATE, keys.TIMERS, keys.INBOX, keys.NOTICES),
    *(keys.PAUSES, keys.SUPPRESSED, keys.LOOKUP),
)
"""Whoever used a ledger left one of these."""


class SchemaTooNew(LedgerUnavailable):
    """A newer release raised `readable_by` above what this process knows."""


class LedgerFault(LedgerUnavailable):
    """Redis is there, and an act failed on what it was given, or on what the ledger holds.

    To wait does not help.
    """


class Schema(NamedTuple):
    """The form of a ledger's data."""

    version: int
    readable_by: int


@dataclass(frozen=True, slots=True)
class Migration:
    """The way to a version from the one before."""

    version: int
    name: str
    slices: Callable[[Client, Scripts], Iterator[None]] = lambda *_: iter(())
    """The work, cut up so that no act keeps others waiting. Each slice may be done by several
    workers at once, again after a kill, and while workers of older versions go on."""


def _note_due(client: Client, scripts: Scripts) -> Iterator[None]:
    note_due = scripts.act("note_due")
    cursor: Any = 0
    while True:
        cursor, timers = client.zscan(keys.TIMERS, cursor, count=SLICE)
        note_due(args=[message_id for message_id, _ in timers])
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
    with mapped_errors(url):
        found = read(client)
    if found and found.readable_by > keys.VERSION:
        raise SettingsError([_too_new(url, found.readable_by)])


def migrate(client: Client, rules: Rules, migrations: Sequence[Migration] = MIGRATIONS) -> Schema:
    """Bring a ledger to the form of the last migration, or leave a newer one that may be worked on.

    Many workers may do this at once, and be killed at any point: the next start goes on. Raises
    SettingsError where the ledger is too new, and LedgerUnavailable.
    """
    check(client, rules.url)
    scripts = Scripts(client, rules)
    raise_to = _raiser(scripts, max(one.version for one in migrations))
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
    with mapped_errors(rules.url):
        return _raiser(Scripts(client, rules), keys.VERSION)(readable_by=version)


def _raiser(scripts: Scripts, newest: int) -> Callable[..., Schema]:
    """Return what raises a ledger's schema, and returns it; an empty ledger has the newest."""
    act = scripts.plain("schema")

    def raise_to(version: int = 0, readable_by: int = 0) -> Schema:
        args = [newest, version, readable_by]
        return Schema(*act(keys=[keys.SCHEMA, *_SIGNS_OF_USE], args=args))

    return raise_to


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


def understood(error: LedgerUnavailable, url: str) -> LedgerUnavailable:
    """Return the error of an act as what it is: Outgrown, LedgerFault, or as it came."""
    cause = error.__cause__
    code, _, readable_by = str(cause).partition(" ")
    if code == "OUTGROWN":
        return SchemaTooNew(_too_new(url, int(readable_by)))
    # What a server says of itself has a class of its own in redis-py, or one of these codes.
    if type(cause) is redis.ResponseError and _OF_A_SCRIPT.search(str(cause)):
        return LedgerFault(*error.args)
    return error


def log_events(events: Iterable[str]) -> None:
    """Log what acts tell of."""
    for event in events:
        log.log(logging.CRITICAL if event.startswith(SET_ASIDE) else logging.WARNING, "%s", event)


def _too_new(url: str, readable_by: int) -> str:
    return (
        f"the ledger at {shown_url(url)} (SMSQ_REDIS_URL) is for releases that know its schema "
        f"{readable_by}; this smsq {release_of('smsq')} knows up to {keys.VERSION}: upgrade this "
        "process, or name another ledger"
    )
