"""Checks of single arguments. No text of an error repeats what may be a number or a code."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from smsq.errors import InvalidMessage

E = TypeVar("E", bound=StrEnum)

_IN_NO_NAME: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Controls, line breaks, overrides of the direction, and what has no width: nobody means them."""
_IN_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys. A text may have lines and tabs, and emoji joined without width."""


def text(
    name: str,
    value: object,
    *,
    least: int,
    most: int,
    is_name: bool = False,
    is_shown: bool = False,
) -> str:
    """Return a str of least to most characters.

    A name has no control and no invisible character, and what is shown elsewhere nothing that a
    terminal obeys.
    """
    rule = f"{name} must be a str of {least} to {most} characters"
    if not isinstance(value, str):
        is_number = name == "code" and isinstance(value, int | float)
        hint = ": a number would lose its leading zeros" if is_number else ""
        raise InvalidMessage(f"{rule}; got {kind_of(value)}{hint}")
    if not least <= len(value) <= most:
        raise InvalidMessage(f"{rule}; got {len(value)}")
    if value.isprintable():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{rule}; got half of a surrogate pair, which is no text") from None
    if is_name and (found := _IN_NO_NAME.search(value)):
        raise InvalidMessage(f"{rule}; got {_kind_of(found[0])}, which no name has")
    if is_shown and (found := _IN_NO_TEXT.search(value)):
        raise InvalidMessage(f"{rule}; got {_kind_of(found[0])}, which no terminal may be shown")
    return value


def _kind_of(char: str) -> str:
    if char in "\xad\u180e\u200b\u200c\u200d\u2060\ufeff":
        return f"an invisible character (U+{ord(char):04X})"
    return f"a control character (U+{ord(char):04X})"


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
