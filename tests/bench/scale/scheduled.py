"""A million messages are scheduled for one moment."""

from __future__ import annotations

import time

from bench.figures import ms, parts
from bench.peers.goals import Goal
from bench.place import Place, until
from bench.plan import Plan
from bench.scale.fill import queue
from bench.scale.measure import RATE, measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, background, fresh, result, scaled
from smsq.contract import Lane

MESSAGES = 1_000_000
FILLED_PER_S = 5_000
"""At least, or the moment comes before all are scheduled for it."""
START_S = 25.0
LATE_MS = 1000.0
RETRY_FIRST_S = 1.0
AHEAD_EVERY_S = 3.0
LOOK_S = 0.5


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Measure from the moment on; some otps are scheduled, and some refused at first."""
    fresh(place, "scheduled", SMSQ_RETRY_FIRST_S=RETRY_FIRST_S)
    count = scaled(MESSAGES, plan)
    moment = time.time() + START_S + count / FILLED_PER_S
    filled = queue(count, Lane.BULK, shape, send_at=moment)
    also = background(plan)
    place.start_workers(WORKERS)
    place.begin()
    spare = moment - time.time()
    time.sleep(max(0.0, spare - SETTLE_S))
    with measuring(place) as measure:
        time.sleep(max(0.0, moment - time.time()))
        measure.begin()
        woken = 0.0
        for n in range(int(2 * plan.seconds / LOOK_S)):
            if n == 1:
                measure.otps.ask("refused")
            elif n % (AHEAD_EVERY_S / LOOK_S) == 0:
                measure.otps.ask("ahead")
            until(measure.began + (n + 1) * LOOK_S)
            if not woken and not left(place):
                woken = time.monotonic() - measure.began
        still = left(place)
        measure.end()
    ahead, again = measure.otps.ahead(), measure.otps.again()
    told = f"all woken up within {ms(woken)}" if woken else f"{still} not yet woken up at the end"
    return result(
        measure,
        filled.plus(also),
        f"the last was scheduled {spare:.0f} s before the moment; {told}",
        f"otps scheduled 2 s ahead were late by {parts(ahead)}, those refused were called again "
        f"after {parts(again)} (408: a 503 would halve the rate of {RATE}/s for a while)",
        goals=[
            Goal("otp scheduled 2 s ahead, late by", 1000 * max(ahead), LATE_MS, "ms"),
            Goal(
                "otp refused once, called again after",
                1000 * max(again),
                1000 * RETRY_FIRST_S + LATE_MS,
                "ms",
            ),
        ],
    )


def left(place: Place) -> int:
    """Count those whose time has not been seen to have come."""
    return place.control.live().get("bulk:deferred", 0)
