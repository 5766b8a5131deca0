"""The first pass: every row is checked, nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from smsq_worker.bulk_import.badrows import BadRows
from smsq_worker.bulk_import.numbers import Numbers
from smsq_worker.bulk_import.rows import Row, Rows
from smsq_worker.ledger.suppressed import SuppressedCounter

SHOWN: Final = 20
_KINDS: Final = 100
"""So many reasons are counted apart: the file must not decide how much memory they take."""
_OTHERS: Final = "other reasons"
_NO_KEY: Final = "no key, which each row of stdin or a pipe needs where there is no --key-prefix"


@dataclass(slots=True)
class Checked:
    """What is known of the rows seen so far."""

    rows: int = 0
    bad: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[tuple[int, str]] = field(default_factory=list)
    """The first bad ones: line, problem."""
    least_ttl_s: float = inf

    @property
    def good(self) -> int:
        """Count the rows that can be sent."""
        return self.rows - self.bad

    def add(self, row: Row) -> None:
        """Count a row."""
        self.rows += 1
        if row.message:
            self.least_ttl_s = min(self.least_ttl_s, row.message.ttl_s)
        if row.problem:
            self.bad += 1
            # Without what was found instead, which differs from row to row.
            rule = row.problem.partition("; got ")[0]
            known = rule in self.reasons or len(self.reasons) < _KINDS
            self.reasons[rule if known else _OTHERS] += 1
            if len(self.first) < SHOWN:
                self.first.append((row.line, row.problem))


def once(rows: Rows, found: Checked, bad: BadRows | None, *, need_keys: bool) -> Iterator[Row]:
    """Give the rows of what cannot be read twice, up to the first bad one unless `bad` takes it.

    What is found stands in `found`. Raises BadFile.
    """
    for row in rows:
        if need_keys and not row.problem and "key" not in row.given:
            row = replace(row, problem=_NO_KEY)  # noqa: PLW2901 - the same row, found bad
        found.add(row)
        if row.problem:
            if bad is None:
                return
            bad.write(row)
        yield row


def check(
    rows: Rows,
    *,
    bad: BadRows | None = None,
    numbers: Numbers | None = None,
    suppressed: SuppressedCounter | None = None,
    seen: Callable[[int], None],
) -> Checked:
    """Check all rows; tell `seen` the count now and then.

    Bad rows go to `bad`, the numbers of the others to `numbers` and `suppressed`. Raises BadFile.
    """
    found = Checked()
    for row in rows:
        found.add(row)
        if bad and row.problem:
            bad.write(row)
        if row.message and numbers:
            numbers.add(row.message.phone, row.line)
        if row.message and suppressed:
            suppressed.add(row.message.phone)
        if not found.rows % 1000:
            seen(found.rows)
    seen(found.rows)
    return found
