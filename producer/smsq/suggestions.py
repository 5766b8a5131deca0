"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known names that are spelt like this one, the closest first."""
    return difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return "did you mean X?" for the nearest known name, "" without one."""
    return "".join(f"did you mean {near}?" for near in nearest(name, known, cutoff=cutoff))


def hint(name: str, known: Iterable[str]) -> str:
    """Return the same behind a semicolon, for the end of a sentence."""
    found = did_you_mean(name, known)
    return f"; {found}" if found else ""
