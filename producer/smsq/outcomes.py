"""What a callback says of a message that has ended: one dict, built here alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

TIMES: Final = ("enqueued", "accepted", "finished", "allowed")
_NAMES: Final = ("reason", "stat", "detail", "template", "phone", "reference", "mid")
_LAST_MS: Final = 253_402_300_799_000
"""9999-12-31T23:59:59Z, which is written for "for ever". A fraction more has no date."""


def outcome_of(found: Mapping[str, Any], raw_stat: str | None) -> dict[str, Any]:
    """Return what a `notify` task gets, with every name there, of a message's fields."""
    outcome = {"id": found["id"], "state": found["state"], "lane": found["lane"]}
    outcome |= {name: found.get(name) for name in _NAMES}
    outcome["raw_stat"] = raw_stat
    return outcome | {f"{name}_at": _iso(found.get(name)) for name in TIMES}


def at(milliseconds: float) -> datetime:
    """Return a moment of the ledger, in Unix milliseconds, as an aware time."""
    return datetime.fromtimestamp(min(milliseconds, _LAST_MS) / 1000, UTC)


def callback_id(outcome: Mapping[str, Any]) -> str:
    """Return a callback's id, by which an endpoint recognizes a repetition."""
    return f"{outcome['id']}.{outcome['state']}"


def _iso(milliseconds: str | None) -> str | None:
    return at(float(milliseconds)).isoformat() if milliseconds else None
