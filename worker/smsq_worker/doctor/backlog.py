"""The ledger's messages: whether the scheduler is on time, and what waits for a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.doctor.finding import Finding, error, graded, ok, warning
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.report_lag import LOOK_AT, at_once, lag_s

LATE_S: Final = 5
TOO_LATE_S: Final = 60
NAMED: Final = 5


def check(client: Client) -> Iterator[Finding]:
    """Check what waits in the ledger. Raises redis.RedisError."""
    now_ms = timestamps.now_ms(client)
    yield _lag(client, now_ms)
    yield _late_reports(client, now_ms)
    yield _unpublished(client)
    yield _none(
        client.zcard(keys.HELD),
        "messages held, as an attempt may or may not have sent an SMS",
        "decide them: smsq held",
    )
    yield _none(
        client.zcard(keys.PARKED),
        "mids with reports but no known message",
        "see them: smsq parked",
    )
    yield _bad(client.zrevrange(keys.BAD, 0, NAMED - 1), client.zcard(keys.BAD))


def _lag(client: Client, now_ms: int) -> Finding:
    due = client.zcount(keys.TIMERS, "-inf", now_ms)
    return _late("timer of a message", lag_s(client), due)


def _late_reports(client: Client, now_ms: int) -> Finding:
    first: Any = client.zrangebyscore(keys.INBOX, "(0", now_ms, start=0, num=1, withscores=True)
    due = client.zcount(keys.INBOX, "-inf", now_ms)
    return _late("report", (now_ms - first[0][1]) / 1000 if first else 0, due)


def _late(noun: str, late_s: float, count: int) -> Finding:
    level = graded(late_s, warn_above=LATE_S, fail_above=TOO_LATE_S)
    if level == "ok":
        return ok(f"no {noun} is more than {LATE_S} s overdue")
    return Finding(
        level,
        f"the oldest overdue {noun} is {late_s:.0f} s late, of {count}",
        "the scheduler is part of every worker: start one (smsq worker), or check its log",
    )


def _bad(names: Any, count: int) -> Finding:
    what = f"ledger entries that cannot be processed and were set aside: {count}"
    if not count:
        return ok(what)
    # Only messages: other names may quote a number.
    known = [name for name in names if re.fullmatch(r"message:[\w.:-]{1,64}", name, re.ASCII)]
    advice = "see ops/RUNBOOK.md, SmsqSetAside" + f" ({', '.join(known)})" * bool(known)
    return error(what, advice)


def _unpublished(client: Client) -> Finding:
    """Count messages whose producer reached the ledger but not the broker."""
    ids = at_once(client)
    with client.pipeline(transaction=False) as pipe:
        for message_id in ids:
            pipe.hget(keys.message(message_id), "published")
        count = sum(published == "0" for published in pipe.execute())
    return _none(
        count,
        "wake-ups that could not be published" + f" (of {LOOK_AT} checked)" * (count == LOOK_AT),
        "a worker's scheduler publishes them; find out why producers do not reach the broker",
    )


def _none(count: int, what: str, advice: str) -> Finding:
    found = f"{what}: {count}"
    return warning(found, advice) if count else ok(found)
