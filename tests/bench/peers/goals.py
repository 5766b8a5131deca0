"""What is to be reached, and by how much it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.figures import Report, table


@dataclass(frozen=True)
class Goal:
    """A figure and its bound."""

    what: str
    value: float
    bound: float
    unit: str
    at_least: bool = False
    """The bound is the smallest good value; otherwise the largest."""

    def of(self, title: str) -> Goal:
        """Name whose goal it is."""
        return replace(self, what=f"{title}: {self.what}")

    @property
    def ratio(self) -> float:
        """Give the value as so many times the bound."""
        return self.value / self.bound

    @property
    def reached(self) -> bool:
        """Tell whether it is good."""
        return self.ratio >= 1 if self.at_least else self.ratio <= 1

    def row(self) -> dict[str, Any]:
        """Write it as a row of a table."""
        sign = ">=" if self.at_least else "<="
        return {
            "goal": self.what,
            "measured": f"{_shown(self.value)} {self.unit}",
            "bound": f"{sign} {_shown(self.bound)} {self.unit}",
            "ratio": f"{self.ratio:.2f}",
            "reached": "yes" if self.reached else "NO",
        }


def _shown(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def judge(goals: Sequence[Goal], report: Report) -> None:
    """Add the goals to a report, and what is missed to what it did not keep."""
    report.notes.append(table([goal.row() for goal in goals]))
    for goal in goals:
        row = goal.row()
        report.promise(goal.reached, f"{goal.what}: {row['measured']}, bound {row['bound']}")
