"""From times to figures, and figures as text."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SIDE_BY_SIDE, LONG = 3, 10
"""So many rows, each of so many figures, would not fit beside each other as columns."""


class Arrival(NamedTuple):
    """A call as the gateway noted it."""

    at: float
    """On the monotonic clock, which all processes of a machine share."""
    wall: float
    phone: str
    worker: str
    mode: str
    mid: str


class Spread(NamedTuple):
    """What rounds of the same came to."""

    median: float
    least: float
    most: float

    def text(self, digits: int = 2) -> str:
        """Write the median, and between which the rounds were."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f} - {self.most:.{digits}f})"


def spread(values: Iterable[float]) -> Spread:
    """Give the median of rounds, the least and the most."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


@dataclass
class Report:
    """What a scenario shows."""

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """The promises that were not kept."""

    def promise(self, kept: bool, words: str) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.broken.append(words)

    def text(self) -> str:
        """Write it for a reader."""
        told = [f"{self.title}: {words}" for words in self.broken] or ["all as promised"]
        return "\n".join([f"== {self.title}", table(self.rows), *self.notes, *told, ""])


def most_in_a_second(times: Iterable[float]) -> int:
    """Give the most in any second that includes its beginning and not its end."""
    ordered = sorted(times)
    return max(
        (bisect.bisect_left(ordered, at + 1.0) - n for n, at in enumerate(ordered)), default=0
    )


def within(arrivals: Iterable[Arrival], start: float, end: float) -> list[Arrival]:
    """Give what came in that time."""
    return [one for one in arrivals if start <= one.at < end]


def part(values: Sequence[float], percent: float) -> float:
    """Give the value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)] if ordered else float("nan")


def ms(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def parts(seconds: Sequence[float]) -> str:
    """Write p50, p99 and the largest."""
    return " / ".join(ms(part(seconds, percent)) for percent in (50, 99, 100))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay rows out in columns; few that are long are laid out side by side."""
    if not rows:
        return "nothing was measured"
    if len(rows) == 1 or (len(rows) <= SIDE_BY_SIDE and len(rows[0]) >= LONG):
        return _lines(rows)
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:>{wide}}" for cell, wide in zip(line, widths, strict=True))
        for line in cells
    )


def _lines(rows: Sequence[dict[str, Any]]) -> str:
    """Write a line for each figure, with the rows' values beside each other."""
    wide = max(map(len, rows[0]))
    columns = [[str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in columns[:-1]] + [0]
    return "\n".join(
        f"{name:<{wide}}  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, *cells in zip(rows[0], *columns, strict=True)
    )
