"""How times, durations and pauses are written for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from smsq_worker.ledger.admin import Pause

_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_PHONE: Final = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")


def moment(at: datetime) -> str:
    """Return a time in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def instant(at: datetime) -> str:
    """Return a time in UTC, to the millisecond: the steps of a message are that close."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def span(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left, words = round(seconds), []
    for size, unit in _UNITS:
        if left >= size:
            words.append(f"{left // size} {unit}")
            left %= size
    return " ".join(words[:2]) or "0 s"


def clean(text: str) -> str:
    """Return foreign text fit for a terminal, with what looks like a phone number masked."""
    return _PHONE.sub(r"\1****\2", "".join(c if c.isprintable() else " " for c in text))


def scope_words(scope: str) -> str:
    """Return a scope as an operator writes it."""
    kind, _, name = scope.partition(":")
    return f"{kind} {name}".rstrip()


def pause_words(pause: Pause) -> str:
    """Return the cause of a pause, and since when it lasts."""
    why = f"{pause.cause}: {pause.detail}" if pause.detail else pause.cause
    lanes = f", in lane {' and '.join(pause.lanes)}" if pause.lanes else ""
    return f"{why}{lanes}, since {moment(pause.since)}"


def pause_end(pause: Pause) -> str:
    """Return what ends a pause."""
    if pause.probe_at is None:
        return f"until smsq resume {scope_words(pause.scope)}"
    return f"next probe {moment(pause.probe_at)}"
