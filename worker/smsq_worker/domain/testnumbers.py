"""Test numbers: their messages go every way but the call of the gateway.

Each attempt gets a mid in a separate name space. The gateway cannot give one out, and nobody can
report on one from outside: `vendors.mids.clean_mid` takes no such mid from either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

MID_PREFIX: Final = "smsq-test:"
DELIVRD: Final = "DELIVRD"
MOST: Final = 100
"""How many numbers and patterns there may be: each message is compared with all of them."""

_DIGITS: Final = 11
_WILD: Final = 4
_PATTERN: Final = re.compile(r"(1[3-9][0-9]*)([xX]*)")
ALLOWED: Final = (
    f"a number of {_DIGITS} digits, or its beginning with at most {_WILD} x for the last digits, "
    "like 1380000xxxx"
)

Reported = tuple[tuple[str, str], ...]
"""(how numbers begin, the stat that is reported of them), the longest beginning first."""


def prefix(text: str) -> str:
    """Return how the numbers of a pattern begin. Raises ValueError with what is allowed."""
    found = _PATTERN.fullmatch(text)
    if found is None or len(text) != _DIGITS or len(found[2]) > _WILD:
        raise ValueError(ALLOWED)
    return found[1]


def read(text: str) -> tuple[str, ...]:
    """Read numbers and patterns, separated by commas, as how they begin.

    Raises ValueError with what is allowed, and which of them is bad: numbers are not repeated.
    """
    found = []
    parts = text.split(",")
    if len(parts) > MOST:
        raise ValueError(f"at most {MOST} numbers and patterns; there are {len(parts)}")
    for n, part in enumerate(parts, 1):
        try:
            found.append(prefix(part.strip()))
        except ValueError:
            raise ValueError(f"{ALLOWED}; several separated by commas (see number {n})") from None
    return tuple(dict.fromkeys(found))


def reported(prefixes: Iterable[str], codes: Mapping[str, str]) -> Reported:
    """Return what is reported of which test numbers.

    `codes` maps how numbers begin to a stat. It makes no number a test number that is none.
    """
    prefixes = [*prefixes]

    def stat_of(number: str) -> str:
        within = [one for one in codes if number.startswith(one)]
        return codes[max(within, key=len)] if within else DELIVRD

    known = [*prefixes, *(one for one in codes if one.startswith(tuple(prefixes)))]
    longest_first = sorted(dict.fromkeys(known), key=lambda one: (-len(one), one))
    return tuple((one, stat_of(one)) for one in longest_first)


def stat_for(phone: str, numbers: Reported) -> str | None:
    """Return the stat that is reported of a test number; None for any other number."""
    return next((stat for first, stat in numbers if phone.startswith(first)), None)


def new_mid() -> str:
    """Return a mid for an attempt at a test number."""
    return f"{MID_PREFIX}{os.urandom(8).hex()}"
