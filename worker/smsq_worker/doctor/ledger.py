"""The ledger: its schema, functions and encryption, what is late in it, and what waits in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from redis.exceptions import ResponseError

from smsq.cipher import FernetCipher, fernets
from smsq.connection import Client
from smsq.errors import SettingsError
from smsq.functions import LIBRARY
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, graded, ok, one_line, warning
from smsq_worker.i18n import N_, _
from smsq_worker.inspection.formatting import span
from smsq_worker.ledger import backlog
from smsq_worker.ledger.functions import libraries, workers_run_scripts
from smsq_worker.ledger.key_rotation import wrapped_lookup_key
from smsq_worker.ledger.migrations import UNMARKED, VERSION, read
from smsq_worker.ledger.types import INBOX_AT_MOST, INBOX_UNKNOWN

SIDE_BY_SIDE: Final = 2
"""Libraries of functions: an older and a newer release's."""
LATE_S: Final = 5
TOO_LATE_S: Final = 60
NAMED: Final = 5
_SHOWN: Final = r"message:[\w.:-]{1,64}|task:smsq\.\w+ in sms\.\w+"


def check_schema(client: Client) -> Iterator[Finding]:
    """Compare the ledger's schema with what this release knows. Raises redis.RedisError."""
    found = read(client)
    if found is None:
        yield ok(_("the ledger is empty; the first worker records its schema"))
        return
    what = _(
        "the ledger has schema {found}; this release knows up to {known}",
        found=found.version,
        known=VERSION,
    )
    if found.readable_by > VERSION:
        yield error(
            _("{what}, and the ledger requires {needed}", what=what, needed=found.readable_by),
            _("upgrade this process, or name another ledger in SMSQ_REDIS_URL"),
        )
    elif found.version < VERSION:
        advice = _("restart a worker of this release: it migrates the ledger at its start")
        # Also what a running worker has made of an empty Redis, which a start would hide.
        emptied = N_(
            "if it had schema {known} before, its Redis was started without its data: restart "
            "nothing, see docs/operate/runbook.md, Redis was started empty; else {advice}"
        )
        if found.version == UNMARKED:
            advice = _(emptied, known=VERSION, advice=advice)
        yield warning(what, advice)
    elif found.version > VERSION:
        what = _("{what}, and may still work there", what=what)
        yield warning(what, _("upgrade this process, too"))
    else:
        yield ok(_("the ledger has schema {found}, as this release", found=found.version))


def check_functions(client: Client) -> Iterator[Finding]:
    """Check for this release's library, and for outdated ones. Raises redis.RedisError."""
    try:
        found = libraries(client)
    except ResponseError as problem:  # no permission, or a server that has no functions
        what = _(
            "unknown whether the functions of producers are there: {error}", error=one_line(problem)
        )
        yield warning(what, _("grant FUNCTION|LIST; a server without functions runs their scripts"))
        return
    if any(one.is_own for one in found):
        yield ok(_("the functions of producers are there: {name}", name=LIBRARY))
    else:
        what = _("the functions of this release's producers are not there: {name}", name=LIBRARY)
        advice = _(
            "start a worker of this release, or run smsq functions load; until then only those "
            "producers get through whose user may run scripts"
        )
        yield warning(what, advice)
    if len(found) > SIDE_BY_SIDE:
        what = _("libraries of functions, of several releases: {n}", n=len(found))
        yield warning(what, _("drop those of which no producer runs: smsq functions"))
    if workers_run_scripts(client):
        advice = _(
            "functions cost Redis less: let the workers' user run FCALL, FUNCTION|LOAD, "
            "FUNCTION|LIST and FUNCTION|DELETE"
        )
        yield ok(_("workers run their acts as scripts, as none has loaded its functions"), advice)


def check_encryption(settings: Settings, client: Client) -> Iterator[Finding]:
    """Try the keys on what the ledger holds. Raises redis.RedisError."""
    wrapped = wrapped_lookup_key(client)
    if settings.payload_keys:
        yield _tried(settings, wrapped)
    elif wrapped:
        what = _(
            "numbers and codes are encrypted in Redis, but SMSQ_PAYLOAD_KEYS is not set here: no "
            "worker starts without it, and a producer's messages are readable"
        )
        yield error(what, _("give every process the same SMSQ_PAYLOAD_KEYS"))
    else:
        what = _(
            "anyone who can read Redis can read number and code of each message until it is final"
        )
        yield ok(what, _("SMSQ_PAYLOAD_KEYS encrypts them"))
    if settings.redo_s:
        what = _(
            "number and code of what failed in the lanes notice and bulk are kept for {time} "
            "after its end, for smsq redo; an otp's never",
            time=span(settings.redo_s),
        )
        yield ok(what, _("SMSQ_REDO_S=0 keeps none"))


def _tried(settings: Settings, wrapped: str | None) -> Finding:
    try:
        keyring = fernets(settings.payload_keys)
        if wrapped:
            FernetCipher(keyring, wrapped)
    except SettingsError as problem:
        what, _semicolon, advice = problem.problems[0].partition("; ")
        return error(what, advice)
    return ok(_("numbers and codes are encrypted in Redis, with keys that are known here"))


def check_messages(client: Client) -> Iterator[Finding]:
    """Check what waits in the ledger. Raises redis.RedisError."""
    yield _late(
        *backlog.overdue(client),
        N_("no timer of a message is more than {s} s overdue"),
        N_("the oldest overdue timer of a message is {late:.0f} s late, of {n}"),
    )
    yield _late(
        *backlog.overdue_reports(client),
        N_("no report is more than {s} s overdue"),
        N_("the oldest overdue report is {late:.0f} s late, of {n}"),
    )
    waiting = backlog.count_waiting(client)
    yield _inbox(waiting.inbox)
    yield _unpublished(backlog.unpublished(client))
    what = _("messages held, as an attempt may or may not have sent an SMS")
    yield _none(waiting.held, what, _("decide them: smsq held"))
    what = _("mids with reports but no known message")
    yield _none(waiting.parked, what, _("see them: smsq parked"))
    yield _bad(*backlog.set_aside(client, NAMED))


def _late(late_s: float, count: int, on_time: str, late: str) -> Finding:
    level = graded(late_s, warn_above=LATE_S, fail_above=TOO_LATE_S)
    if level == "ok":
        return ok(_(on_time, s=LATE_S))
    advice = _("the scheduler is part of every worker: start one (smsq worker), or check its log")
    return Finding(level, _(late, late=late_s, n=count), advice)


def _bad(names: list[str], count: int) -> Finding:
    what = _("ledger entries that cannot be processed and were set aside: {n}", n=count)
    if not count:
        return ok(what)
    # Only messages and tasks: other names may quote a number.
    known = [name for name in names if re.fullmatch(_SHOWN, name, re.ASCII)]
    advice = _("see docs/operate/runbook.md, SmsqSetAside")
    return error(what, advice + f" ({', '.join(known)})" * bool(known))


def _inbox(count: int) -> Finding:
    what = _("reports that wait to be reconciled: {n}", n=count)
    if count < INBOX_UNKNOWN:
        return ok(what)
    advice = _("start workers if none run; else see docs/operate/runbook.md, SmsqReportFlood")
    if count >= INBOX_AT_MOST:
        return error(_("{what}; the HTTP APIs refuse all others", what=what), advice)
    refused = _("{what}; the HTTP APIs refuse others whose mid no message has", what=what)
    return warning(refused, advice)


def _unpublished(count: int) -> Finding:
    what = _("wake-ups that could not be published")
    if count == backlog.SCANNED:
        what = _("wake-ups that could not be published (of {n} checked)", n=count)
    advice = _(
        "a worker's scheduler publishes them; find out why producers do not reach the broker"
    )
    return _none(count, what, advice)


def _none(count: int, what: str, advice: str) -> Finding:
    found = _("{name}: {meaning}", name=what, meaning=count)
    return warning(found, advice) if count else ok(found)
