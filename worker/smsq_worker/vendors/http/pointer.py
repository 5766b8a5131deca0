"""JSON pointers (RFC 6901), and what they find as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

Pointer = Callable[[Any], Any]
"""Returns what is at its place in a JSON value, None where it leads nowhere. Never raises."""


def pointer(text: object) -> Pointer:
    """Return a pointer, read once. Raises ValueError."""
    if not isinstance(text, str) or not _POINTER.fullmatch(text):
        raise ValueError
    steps = [one.replace("~1", "/").replace("~0", "~") for one in text.split("/")[1:]]

    def find(value: Any) -> Any:
        for step in steps:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
                value = value[int(step)]
            else:
                return None
        return value

    return find


def as_text(value: object) -> str:
    """Return a JSON text, number or truth value as text without blanks around; "" for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str | int | float) else ""


def first_text(pointers: Iterable[Pointer], value: object) -> str:
    """Return the first text that is not empty; "" where all are."""
    return next((text for one in pointers if (text := as_text(one(value)))), "")
