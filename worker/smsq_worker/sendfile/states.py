"""The states of many messages at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq.contract import State
from smsq.tracking import key_holder


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a message stands."""

    state: State | None
    """None where nothing is known of it (any more)."""
    holder: str
    """The id of the message that holds its key, where it is a duplicate."""


def read_states(client: Client, url: str, ids: Sequence[str]) -> list[Standing]:
    """Read messages' states in one round trip. Raises LedgerUnavailable."""
    with mapped_errors(url), client.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.hmget(keys.message(one), "state", "reason")
        found = pipe.execute()
    return [
        Standing(State(state) if state else None, key_holder(reason)) for state, reason in found
    ]
