"""The states of many messages at once."""

from __future__ import annotations

from collections.abc import Sequence

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import State


def read_states(client: Client, url: str, ids: Sequence[str]) -> list[State | None]:
    """Read messages' states in one round trip; None where nothing is known (any more).

    Raises LedgerUnavailable.
    """
    with mapped_errors(url), client.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.hmget(keys.message(one), "state")
        found = pipe.execute()
    return [State(state) if state else None for (state,) in found]
