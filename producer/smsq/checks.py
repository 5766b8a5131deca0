"""Checks of single arguments. No text of an error repeats what may be a number or a code."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from smsq.errors import InvalidMessage

E = TypeVar("E", bound=StrEnum)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def text(name: str, value: object, *, least: int, most: int, is_name: bool = False) -> str:
    """Return a str of least to most characters, of a name without control characters."""
    rule = f"{name} must be a str of {least} to {most} characters"
    if not isinstance(value, str):
        hint = ": a number would lose its leading zeros" if name == "code" else ""
        raise InvalidMessage(f"{rule}; got {kind_of(value)}{hint}")
    if not least <= len(value) <= most:
        raise InvalidMessage(f"{rule}; got {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{rule}; got half of a surrogate pair, which is no text") from None
    if is_name and _CONTROL.search(value):
        raise InvalidMessage(f"{rule}; got a control character, which no name has")
    return value


def choice(name: str, value: object, allowed: type[E]) -> E:
    """Return the member of an enumeration that has this value."""
    members: dict[str, E] = _members(allowed)
    if isinstance(value, str) and value in members:
        return members[value]
    shown = repr(masked(value)) if isinstance(value, str) else kind_of(value)
    raise InvalidMessage(f"{name} must be one of {', '.join(allowed)}; got {shown}")


@cache
def _members(allowed: type[E]) -> dict[str, E]:
    """Map values to members; a call of the class also takes what is none, and costs more."""
    return {str(member): member for member in allowed}


def kind_of(value: object) -> str:
    """Name a value's type."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def masked(value: str) -> str:
    """Cut a text short, and hide its longer runs of digits."""
    return re.sub(r"\d{4,}", "****", value[:80])


def rounded(value: float) -> str:
    """Write a number with three digits; an int can have thousands."""
    try:
        return f"{value:.3g}"
    except OverflowError:
        return "a number beyond all bounds"
