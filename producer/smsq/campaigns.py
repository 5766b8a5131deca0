"""What is shown of the messages of a cancelled campaign before the scheduler has ended them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smsq import keys
from smsq.connection import mapped_errors
from smsq.contract import State
from smsq.steps import Steps, answered

PAUSED: Final = "paused"
CANCELLED: Final = "cancelled"
"""What a campaign's record has in `stop`."""

WAITING: Final = frozenset({State.QUEUED, State.DEFERRED, State.HELD})
"""The states from which a cancelled campaign's messages are ended."""


def may_be_cancelled(fields: Mapping[str, str]) -> bool:
    """Return whether a message's campaign decides what is shown of it."""
    return "campaign" in fields and fields["state"] in WAITING


def came_to_nothing(fields: Mapping[str, str]) -> bool:
    """Return whether none of a message's attempts was accepted or is in doubt."""
    numbers = {name.partition(":")[0] for name in fields if name.endswith((":at", ":outcome"))}
    return {fields.get(f"{n}:outcome") for n in numbers} <= {"not_sent", "refused"}


def apparent(fields: dict[str, str], stop: str | None, stopped: str | None) -> dict[str, str]:
    """Return a message's fields as they are to be shown; `stop`, `stopped` are its campaign's."""
    if stop != CANCELLED or not may_be_cancelled(fields):
        return fields
    is_certain = came_to_nothing(fields)
    ended = {"state": State.CANCELLED.value if is_certain else State.FAILED.value}
    ended |= {} if is_certain else {"reason": "local:cancelled"}
    return fields | ended | ({"finished": stopped} if stopped else {})


def reading_apparent(url: str, fields: dict[str, str]) -> Steps[dict[str, str]]:
    """Return the same; of a message that waits in a campaign by one more reading."""
    if not may_be_cancelled(fields):
        return fields
    with mapped_errors(url):
        command = ("HMGET", keys.campaign(fields["campaign"]), "stop", "stopped")
        ((stop, stopped),) = yield from answered([command])
    return apparent(fields, stop, stopped)
