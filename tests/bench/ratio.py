"""How many times one measurement is the other, over rounds in which both took turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

T_95: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)
"""Student's t for 2 rounds, 3 and so on; for more than these it is hardly less than the last."""


class Ratio(NamedTuple):
    """A ratio, and the 95 % interval in which it is."""

    low: float
    middle: float
    high: float

    def interval(self) -> str:
        """Write the interval."""
        return f"{self.low:.3f} - {self.high:.3f}"


def ratio(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Compare figures of the same rounds; a single round tells of no interval."""
    logs = [math.log(now / then) for then, now in zip(before, after, strict=True)]
    middle = statistics.mean(logs)
    if len(logs) == 1:
        return Ratio(0.0, math.exp(middle), math.inf)
    t = T_95[min(len(logs) - 2, len(T_95) - 1)]
    apart = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(*(math.exp(middle + by) for by in (-apart, 0, apart)))
