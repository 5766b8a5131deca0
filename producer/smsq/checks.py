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
_LOOK_RIGHT: Final = ("Cc", "Cf", "Mn", "Pd", "Sm", "Zl", "Zp", "Zs")
"""Categories of characters that are invisible, or look like a space, a hyphen or a plus."""


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

    A name is not blank and has no control and no invisible character, and what is shown elsewhere
    nothing that a terminal obeys.
    """
    # Nearly all are right, several of each message: no rule is put into words for those.
    if (
        isinstance(value, str)
        and least <= len(value) <= most
        and value.isprintable()
        and not (is_name and value.isspace())
    ):
        return value
    rule = f"{name} must be a str of {least} to {most} characters"
    if not isinstance(value, str):
        raise InvalidMessage(f"{rule}; got {kind_of(value)}{_instead(name, value)}")
    if not least <= len(value) <= most:
        raise InvalidMessage(f"{rule}; got {len(value)}")
    if is_name and value.isspace():
        raise InvalidMessage(f"{rule}; got blanks alone")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMessage(f"{rule}; got half of a surrogate pair, which is no text") from None
    if is_name and (found := _IN_NO_NAME.search(value)):
        raise InvalidMessage(f"{rule}; got {_kind_of(found[0])}, which no name has")
    if is_shown and (found := _IN_NO_TEXT.search(value)):
        raise InvalidMessage(f"{rule}; got {_kind_of(found[0])}, which no terminal may be shown")
    return value


def _instead(name: str, value: object) -> str:
    """Return what to pass instead of something that is no str, where that is known."""
    if name == "code" and isinstance(value, int | float):
        return ": a number would lose its leading zeros"
    if name == "notify" and isinstance(getattr(value, "name", None), str):
        return "; pass the task's name"
    return ""


def _kind_of(char: str) -> str:
    if char in "\xad\u180e\u200b\u200c\u200d\u2060\ufeff":
        return f"an invisible character (U+{ord(char):04X})"
    return f"a control character (U+{ord(char):04X})"


_REWRITTEN: Final = re.compile(r"[0-9]+\.0|[0-9](\.[0-9]+)?[Ee]\+?[0-9]+")


def no_number(value: str) -> str:
    """Describe a text that is no phone number, above all what one cannot see in it."""
    import unicodedata

    got = f"a text of {len(value)} characters"
    if _REWRITTEN.fullmatch(value.strip()):
        return f"{got}, a number as spreadsheets and pandas rewrite it; make its column text"
    for place, one in enumerate(value, 1):
        kind = unicodedata.category(one)
        if one in " -" or (one.isascii() and one.isprintable()):
            continue
        if kind == "Nd":  # its name would tell which
            return f"{got}, of which character {place} is a full-width digit or of another script"
        if kind in _LOOK_RIGHT:
            name = unicodedata.name(one, "a control character")
            return f"{got}, of which character {place} is {name} (U+{ord(one):04X}); remove it"
    return f"{got} that is not"


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
