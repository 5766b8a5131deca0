"""Numbers that come more than once, found in eight bytes a row."""

from __future__ import annotations

from array import array
from heapq import nsmallest
from itertools import pairwise
from typing import Final

_LEAST: Final = 13_000_000_000
"""Numbers begin with 13 to 19, so what is above this takes 33 bits; a line takes the other 31."""
_LINE_BITS: Final = 31
_PARTS: Final = 64
"""Sorted one by one, so that sorting takes little memory."""


class Numbers:
    """Remembers which number stood in which line, up to 2 147 483 647 lines."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]

    def add(self, phone: str, line: int) -> None:
        """Remember a number of 11 digits."""
        n = int(phone) - _LEAST
        self._parts[n % _PARTS].append(n << _LINE_BITS | line)

    def doubles(self, first: int) -> tuple[int, list[tuple[int, str]]]:
        """Count the rows whose number came before; give the first of them: (line, number)."""
        count, found = 0, list[tuple[int, str]]()
        for part in self._parts:
            again = [
                ((b & (1 << _LINE_BITS) - 1), str((b >> _LINE_BITS) + _LEAST))
                for a, b in pairwise(sorted(part))
                if a >> _LINE_BITS == b >> _LINE_BITS
            ]
            count += len(again)
            found = nsmallest(first, found + again)
        return count, found
