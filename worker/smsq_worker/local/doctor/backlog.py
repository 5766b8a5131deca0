"""The ledger's messages: whether the clock is in time, and what waits for a decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger import moments
from smsq_worker.local.doctor.finding import Finding, graded, ok, warning

LATE_S: Final = 5
TOO_LATE_S: Final = 60
LOOK_AT: Final = 100


def examine(client: Client) -> Iterator[Finding]:
    """Look at what waits in the ledger. Raises redis.RedisError."""
    now_ms = moments.now_ms(client)
    yield _lag(client, now_ms)
    yield _late_reports(client, now_ms)
    yield _unpublished(client)
    yield _none(
        client.zcard(keys.HELD),
        "messages held, as their call may or may not have sent an SMS",
        "decide them: smsq held",
    )
    yield _none(
        client.zcard(keys.PARKED),
        "mids with reports but no message that is known",
        "look at them: smsq parked",
    )


def _lag(client: Client, now_ms: int) -> Finding:
    """Tell how late the clock is. A timer of 0 means "at once", and that since the entry."""
    since = [_oldest(client, keys.TIMERS, now_ms), *_entries(client)]
    return _late(
        "timer of a message",
        max((now_ms - at for at in since if at), default=0),
        client.zcount(keys.TIMERS, "-inf", now_ms),
    )


def _late_reports(client: Client, now_ms: int) -> Finding:
    oldest = _oldest(client, keys.INBOX, now_ms)
    return _late(
        "report",
        now_ms - oldest if oldest else 0,
        client.zcount(keys.INBOX, "-inf", now_ms),
    )


def _late(noun: str, lag_ms: float, count: int) -> Finding:
    level = graded(lag_ms / 1000, warn_above=LATE_S, fail_above=TOO_LATE_S)
    if level == "ok":
        return ok(f"no {noun} is more than {LATE_S} s overdue")
    return Finding(
        level,
        f"the oldest overdue {noun} is {lag_ms / 1000:.0f} s late, of {count}",
        "the clock is a part of every worker: start one (smsq worker), or look at its log",
    )


def _unpublished(client: Client) -> Finding:
    """Count messages whose producer reached the ledger but not the broker."""
    ids = _at_once(client)
    with client.pipeline(transaction=False) as pipe:
        for message_id in ids:
            pipe.hget(keys.message(message_id), "published")
        count = sum(published == "0" for published in pipe.execute())
    return _none(
        count,
        "wake-ups that could not be published" + f" (of {LOOK_AT} looked at)" * (count == LOOK_AT),
        "a worker's clock publishes them; look at why producers do not reach the broker",
    )


def _none(count: int, what: str, advice: str) -> Finding:
    told = f"{what}: {count}"
    return warning(told, advice) if count else ok(told)


def _oldest(client: Client, key: str, now_ms: int) -> float:
    """Give the time for which the oldest overdue entry was due; 0 where there is none."""
    found: Any = client.zrangebyscore(key, "(0", now_ms, start=0, num=1, withscores=True)
    return float(found[0][1]) if found else 0


def _at_once(client: Client) -> list[str]:
    found: Any = client.zrangebyscore(keys.TIMERS, "-inf", 0, start=0, num=LOOK_AT)
    return list(found)


def _entries(client: Client) -> list[float]:
    """Give when the messages that are due at once were enqueued."""
    with client.pipeline(transaction=False) as pipe:
        for message_id in _at_once(client):
            pipe.hget(keys.message(message_id), "enqueued")
        return [float(enqueued) for enqueued in pipe.execute() if enqueued]
