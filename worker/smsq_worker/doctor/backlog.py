"""The ledger's messages: whether the scheduler is on time, and what waits for a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, graded, ok, warning
from smsq_worker.ledger import backlog
from smsq_worker.ledger.types import INBOX_AT_MOST, INBOX_UNKNOWN

LATE_S: Final = 5
TOO_LATE_S: Final = 60
NAMED: Final = 5
_SHOWN: Final = r"message:[\w.:-]{1,64}|task:smsq\.\w+ in sms\.\w+"


def check(client: Client) -> Iterator[Finding]:
    """Check what waits in the ledger. Raises redis.RedisError."""
    yield _late("timer of a message", *backlog.overdue(client))
    yield _late("report", *backlog.overdue_reports(client))
    yield _inbox(backlog.reports(client))
    yield _unpublished(backlog.unpublished(client))
    yield _none(
        backlog.held(client),
        "messages held, as an attempt may or may not have sent an SMS",
        "decide them: smsq held",
    )
    yield _none(
        backlog.parked(client),
        "mids with reports but no known message",
        "see them: smsq parked",
    )
    yield _bad(*backlog.set_aside(client, NAMED))


def _late(noun: str, late_s: float, count: int) -> Finding:
    level = graded(late_s, warn_above=LATE_S, fail_above=TOO_LATE_S)
    if level == "ok":
        return ok(f"no {noun} is more than {LATE_S} s overdue")
    return Finding(
        level,
        f"the oldest overdue {noun} is {late_s:.0f} s late, of {count}",
        "the scheduler is part of every worker: start one (smsq worker), or check its log",
    )


def _bad(names: list[str], count: int) -> Finding:
    what = f"ledger entries that cannot be processed and were set aside: {count}"
    if not count:
        return ok(what)
    # Only messages and tasks: other names may quote a number.
    known = [name for name in names if re.fullmatch(_SHOWN, name, re.ASCII)]
    advice = "see docs/operate/runbook.md, SmsqSetAside" + f" ({', '.join(known)})" * bool(known)
    return error(what, advice)


def _inbox(count: int) -> Finding:
    what = f"reports that wait to be reconciled: {count}"
    if count < INBOX_UNKNOWN:
        return ok(what)
    return Finding(
        "error" if count >= INBOX_AT_MOST else "warning",
        f"{what}; the HTTP APIs refuse "
        + ("all others" if count >= INBOX_AT_MOST else "others whose mid no message has"),
        "start workers if none run; else see docs/operate/runbook.md, SmsqReportFlood",
    )


def _unpublished(count: int) -> Finding:
    return _none(
        count,
        "wake-ups that could not be published"
        + f" (of {backlog.SCANNED} checked)" * (count == backlog.SCANNED),
        "a worker's scheduler publishes them; find out why producers do not reach the broker",
    )


def _none(count: int, what: str, advice: str) -> Finding:
    found = f"{what}: {count}"
    return warning(found, advice) if count else ok(found)
