"""What is to be reached, and by how much it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.figures import Report, table


@dataclass(frozen=True)
class Goal:
    """A figure, the bound that is required, and the better one that is wished for."""

    what: str
    value: float
    bound: float
    unit: str
    at_least: bool = False
    """The bound is the smallest good value; otherwise the largest."""
    wish: float | None = None
    """None: what is required is all that is wished for."""

    def of(self, title: str) -> Goal:
        """Name whose goal it is."""
        return replace(self, what=f"{title}: {self.what}")

    @property
    def ratio(self) -> float:
        """Give the value as so many times the bound."""
        return self.value / self.bound

    @property
    def reached(self) -> bool:
        """Tell whether it is as required."""
        return self._is_good(self.bound)

    @property
    def verdict(self) -> str:
        """Say in a word what was reached."""
        if not self.reached:
            return "NO"
        return "yes" if self.wish is None or self._is_good(self.wish) else "required alone"

    def row(self) -> dict[str, Any]:
        """Write it as a row of a table."""
        sign = ">=" if self.at_least else "<="
        return {
            "goal": self.what,
            "measured": f"{_shown(self.value)} {self.unit}",
            "bound": f"{sign} {_shown(self.bound)} {self.unit}",
            "wished": f"{sign} {_shown(self.wish)} {self.unit}" if self.wish is not None else "",
            "ratio": f"{self.ratio:.2f}",
            "reached": self.verdict,
        }

    def _is_good(self, bound: float) -> bool:
        return self.value >= bound if self.at_least else self.value <= bound


def _shown(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def judge(goals: Sequence[Goal], report: Report) -> None:
    """Add the goals to a report, and what is missed to what it did not keep."""
    report.notes.append(table([goal.row() for goal in goals]))
    for goal in goals:
        row = goal.row()
        report.promise(goal.reached, f"{goal.what}: {row['measured']}, bound {row['bound']}")
