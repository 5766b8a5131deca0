"""Nothing but a little bulk waits: what the machine itself makes of it, beside the others."""

from __future__ import annotations

import time

from bench.place import Place, until
from bench.plan import Plan
from bench.scale.measure import measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, background, fresh, result


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Measure with the rate used up, and nothing else to do."""
    fresh(place, "quiet")
    filled = background(plan, shape)
    place.start_workers(WORKERS)
    place.begin()
    until(time.monotonic() + SETTLE_S)
    with measuring(place) as measure:
        measure.begin()
        until(measure.began + 2 * plan.seconds)
        measure.end()
    return result(measure, filled)
