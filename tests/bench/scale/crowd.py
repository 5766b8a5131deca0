"""Twenty workers share one rate, and together can hold all that is queued."""

from __future__ import annotations

import time

from bench.place import Place, until
from bench.plan import Plan
from bench.scale.fill import queue
from bench.scale.measure import RATE, measuring
from bench.scale.result import SETTLE_S, Result, fresh, result
from smsq.contract import Lane

ASKED_S = 35.0
"""By then the clocks have asked for the first time whether wake-ups were lost."""


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Measure while the queue is empty and the workers hold what is left."""
    fresh(place, "crowd")
    place.start_workers(plan.crowd)
    asked_s = min(ASKED_S, 2 * plan.seconds)
    filled = queue(int(RATE * 1.5 * (asked_s + SETTLE_S + 2 * plan.seconds)), Lane.BULK, shape)
    place.begin()
    until(time.monotonic() + max(SETTLE_S, asked_s - SETTLE_S))
    with measuring(place) as measure:
        until(time.monotonic() + SETTLE_S)
        measure.begin()
        until(measure.began + 2 * plan.seconds)
        measure.end()
    return result(measure, filled, f"{plan.crowd} workers")
