"""Fields of many messages at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import State

_PAGE: Final = 200


def read_states(client: Client, url: str, ids: Sequence[str]) -> list[State | None]:
    """Read messages' states in one round trip; None where nothing is known (any more).

    Raises LedgerUnavailable.
    """
    with mapped_errors(url):
        found = _read(client, ids, "state")
    return [State(state) if state else None for (state,) in found]


def caller_of(client: Client, url: str, message_id: str) -> str | None:
    """Return who sent a message through the relay; None of any other. Raises LedgerUnavailable."""
    with mapped_errors(url):
        return client.hget(keys.message(message_id), "caller")  # type: ignore[return-value]


def first_queued(client: Client, ids: Sequence[str]) -> tuple[int, int, str] | None:
    """Return the first message that is still to be sent: (published, enqueued, id).

    Raises redis.RedisError.
    """
    found = zip(ids, _read(client, ids, "state", "published", "enqueued"), strict=True)
    for message_id, (state, published, enqueued) in found:
        if state == State.QUEUED:
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
    with client.pipeline(transaction=False) as pipe:
        for message_id in ids:
            pipe.hmget(keys.message(message_id), *fields)
        return pipe.execute()
