"""How times and their lengths are written for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def moment(at: datetime) -> str:
    """Write a time in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def instant(at: datetime) -> str:
    """Write a time in UTC, to the millisecond: what happens to a message takes a few of them."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def span(seconds: float) -> str:
    """Write a time's length in its two largest units; smaller ones are dropped."""
    left, words = round(seconds), []
    for size, unit in _UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2]) or "0 s"


def exact_span(seconds: int) -> str:
    """Write whole seconds in the largest unit that needs no fraction."""
    if not seconds:
        return "0 s"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    return f"{seconds // size} {unit}"
