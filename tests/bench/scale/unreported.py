"""The reports of 800,000 messages are given up at one moment."""

from __future__ import annotations

import time

from bench.figures import ms
from bench.place import Place, until
from bench.plan import Plan
from bench.scale import fill
from bench.scale.measure import measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, background, fresh, result, scaled

MESSAGES = 800_000
CLONED_PER_S = 10_000
AHEAD_S = 20.0
LOOK_S = 0.5


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Copy one accepted message, and measure from the moment on."""
    fresh(place, "unreported", SMSQ_REPORT_WAIT_S=3600)
    place.start_workers(WORKERS)
    place.control.resume("account", "one message is sent, and copied")
    count = scaled(MESSAGES, plan)
    moment = time.time() + AHEAD_S + count / CLONED_PER_S
    began = time.monotonic()
    fill.accepted(place, count, round(moment * 1000))
    cloned_s = time.monotonic() - began
    filled = background(plan, shape).plus(fill.ORIGINAL)
    spare = moment - time.time()
    time.sleep(max(0.0, spare - SETTLE_S))
    with measuring(place) as measure:
        time.sleep(max(0.0, moment - time.time()))
        measure.begin()
        ended = 0.0
        while (at := time.monotonic()) < measure.began + 2 * plan.seconds:
            if not ended and place.count("unreported") >= count:
                ended = at - measure.began
            until(at + LOOK_S)
        done = place.count("unreported")
        measure.end()
    told = f"all were given up within {ms(ended)}" if ended else f"{done} of {count} were given up"
    return result(
        measure,
        filled,
        f"{count} copied in {cloned_s:.0f} s, the last {spare:.0f} s before the moment; {told}",
    )
