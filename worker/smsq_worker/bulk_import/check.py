"""The first pass: every row is checked, nothing is sent."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from itertools import pairwise
from math import inf
from typing import Any, Final

from smsq_worker.bulk_import.bad_rows import RowsOut
from smsq_worker.bulk_import.rows import Row, Rows

SHOWN: Final = 20
_KINDS: Final = 100
"""At most this many reasons are counted separately: the file must not decide on memory."""
_OTHERS: Final = "other reasons"
_NO_KEY: Final = "no key, which each row of stdin or a pipe needs where there is no --key-prefix"

_LEAST: Final = 13_000_000_000
"""Numbers begin with 13 to 19, so what is above this takes 33 bits; a line takes the other 31."""
_LINE_BITS: Final = 31
_PARTS: Final = 64
"""Sorted one at a time, so that sorting takes little memory."""


@dataclass(slots=True)
class Listed:
    """Rows of one kind: how many, and the first of them as JSON shows them."""

    count: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: int | None, reason: str, **more: str) -> None:
        """Count a row."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append({"line": line, **more, "reason": reason})


@dataclass(slots=True)
class CheckResult:
    """What is known of the rows checked so far."""

    rows: int = 0
    bad: Listed = field(default_factory=Listed)
    reasons: Counter[str] = field(default_factory=Counter)
    least_ttl_s: float = inf

    @property
    def good(self) -> int:
        """Return how many rows can be sent."""
        return self.rows - self.bad.count

    def add(self, row: Row) -> None:
        """Count a row."""
        self.rows += 1
        if row.message:
            self.least_ttl_s = min(self.least_ttl_s, row.message.ttl_s)
        if row.problem:
            self.bad.add(row.line, row.problem)
            # Without the value found, which differs from row to row.
            rule = row.problem.partition("; got ")[0]
            known = rule in self.reasons or len(self.reasons) < _KINDS
            self.reasons[rule if known else _OTHERS] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON shows it."""
        return {
            "rows": self.rows,
            "bad": self.bad.count,
            "reasons": dict(self.reasons.most_common()),
            "bad_rows": self.bad.first,
        }


class Numbers:
    """Finds numbers that occur twice, in eight bytes a row and up to 2 147 483 647 lines."""

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]

    def add(self, phone: str, line: int) -> None:
        """Remember a number of 11 digits."""
        n = int(phone) - _LEAST
        self._parts[n % _PARTS].append(n << _LINE_BITS | line)

    def doubles(self, first: int) -> tuple[int, list[tuple[int, str]]]:
        """Count the rows whose number occurred before, and return the first: (line, number)."""
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


def checked(
    rows: Rows,
    found: CheckResult,
    bad: RowsOut | None,
    *,
    need_keys: bool = False,
    stop_at_bad: bool = False,
) -> Iterator[Row]:
    """Yield rows and count them in `found`; bad ones are written to `bad` if there is one.

    `need_keys` requires a key of each row, `stop_at_bad` ends at a bad row that cannot be written.
    Raises BadFile.
    """
    for row in rows:
        if need_keys and not row.problem and "key" not in row.given:
            row = replace(row, problem=_NO_KEY)  # noqa: PLW2901 - the same row, found bad
        found.add(row)
        if row.problem and bad:
            bad.write(row, (row.line, row.problem))
        elif row.problem and stop_at_bad:
            return
        yield row
