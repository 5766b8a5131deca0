"""Fields of many messages at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from smsq import keys
from smsq.campaigns import CANCELLED, WAITING
from smsq.connection import Client, mapped_errors
from smsq.contract import State
from smsq_worker.ledger.reading import asked, each

_PAGE: Final = 200
_OF_QUEUED: Final = ("state", "published", "enqueued", "campaign")


def read_states(client: Client, url: str, ids: Sequence[str]) -> list[State | None]:
    """Read messages' states in one round trip; None where nothing is known (any more).

    Raises LedgerUnavailable.
    """
    with mapped_errors(url):
        found = _read(client, ids, "state", "campaign", "otherwise")
        waits = [one for one in found if one[1] and one[0] in WAITING]
        cancelled = _cancelled(client, {campaign for _, campaign, _ in waits}) if waits else ()
    return [
        _state(state, is_cancelled=campaign in cancelled and state in WAITING, in_doubt=bool(why))
        for state, campaign, why in found
    ]


def _state(state: str | None, *, is_cancelled: bool, in_doubt: bool) -> State | None:
    if is_cancelled:
        return State.FAILED if in_doubt or state == State.HELD else State.CANCELLED
    return State(state) if state else None


def _cancelled(client: Client, campaigns: set[str]) -> set[str]:
    """Return those campaigns that were cancelled. Raises redis.RedisError."""
    names = sorted(campaigns)
    stops = each(client, "HGET", map(keys.campaign, names), "stop")
    return {name for name, stop in zip(names, stops, strict=True) if stop == CANCELLED}


def caller_of(client: Client, url: str, message_id: str) -> str | None:
    """Return who sent a message through the relay; None of any other. Raises LedgerUnavailable."""
    return asked(url, client.hget, keys.message(message_id), "caller")  # type: ignore[return-value]


def first_queued(client: Client, ids: Sequence[str]) -> tuple[int, int, str] | None:
    """Return the first message that is still to be sent: (published, enqueued, id).

    Raises redis.RedisError.
    """
    found = [*zip(ids, _read(client, ids, *_OF_QUEUED), strict=True)]
    campaigns = {one[3] for _, one in found if one[3]}
    cancelled = _cancelled(client, campaigns) if campaigns else ()
    for message_id, (state, published, enqueued, campaign) in found:
        if state == State.QUEUED and campaign not in cancelled:
            return int(published or 0) or int(enqueued), int(enqueued), message_id
    return None


def count_deferred_and_due(client: Client, now_ms: int, at_most: int) -> int:
    """Count messages whose wait is over and which no scheduler has queued yet.

    `at_most` timers are read. Raises redis.RedisError.
    """
    count = 0
    for start in range(0, at_most, _PAGE):
        ids: Any = client.zrangebyscore(keys.TIMERS, "-inf", now_ms, start, _PAGE)
        count += _read(client, ids, "state").count([State.DEFERRED])
        if len(ids) < _PAGE:
            break
    return count


def _read(client: Client, ids: Sequence[str], *fields: str) -> list[list[Any]]:
    return each(client, "HMGET", map(keys.message, ids), *fields)
