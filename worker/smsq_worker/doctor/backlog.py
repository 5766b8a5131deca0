"""The ledger's messages: whether the scheduler is on time, and what waits for a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, graded, ok, warning
from smsq_worker.i18n import N_, _
from smsq_worker.ledger import backlog
from smsq_worker.ledger.types import INBOX_AT_MOST, INBOX_UNKNOWN

LATE_S: Final = 5
TOO_LATE_S: Final = 60
NAMED: Final = 5
_SHOWN: Final = r"message:[\w.:-]{1,64}|task:smsq\.\w+ in sms\.\w+"


def check(client: Client) -> Iterator[Finding]:
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
    yield _none(
        waiting.held,
        _("messages held, as an attempt may or may not have sent an SMS"),
        _("decide them: smsq held"),
    )
    yield _none(
        waiting.parked,
        _("mids with reports but no known message"),
        _("see them: smsq parked"),
    )
    yield _bad(*backlog.set_aside(client, NAMED))


def _late(late_s: float, count: int, on_time: str, late: str) -> Finding:
    level = graded(late_s, warn_above=LATE_S, fail_above=TOO_LATE_S)
    if level == "ok":
        return ok(_(on_time, s=LATE_S))
    return Finding(
        level,
        _(late, late=late_s, n=count),
        _("the scheduler is part of every worker: start one (smsq worker), or check its log"),
    )


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
    return _none(
        count,
        what,
        _("a worker's scheduler publishes them; find out why producers do not reach the broker"),
    )


def _none(count: int, what: str, advice: str) -> Finding:
    found = _("{name}: {meaning}", name=what, meaning=count)
    return warning(found, advice) if count else ok(found)
