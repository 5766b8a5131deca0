"""A million bulk messages wait, and are sent at 50 a second."""

from __future__ import annotations

import time
from typing import Any

from bench.place import Place, until
from bench.plan import Plan
from bench.scale.fill import queue
from bench.scale.measure import measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, fresh, result, scaled
from smsq.contract import Lane

MESSAGES = 1_000_000
ASKED_S = 35.0
"""By then the clocks have asked for the first time whether wake-ups were lost."""


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Fill, and measure while the clocks ask after what waits."""
    fresh(place, f"queued-{shape}")
    empty = used_memory(place)
    filled = queue(scaled(MESSAGES, plan), Lane.BULK, shape)
    if filled.messages < 60 * plan.seconds:  # more than may be sent
        extra = queue(int(60 * plan.seconds * 2), Lane.BULK, shape)
        filled = filled.plus(extra)
    done, per_message = time.monotonic(), (used_memory(place) - empty) / filled.messages
    place.start_workers(WORKERS)
    place.begin()
    until(max(done + min(ASKED_S, 2 * plan.seconds), time.monotonic() + SETTLE_S))
    with measuring(place) as measure:
        measure.begin()
        until(measure.began + 2 * plan.seconds)
        measure.end()
    return result(measure, filled, f"{per_message:.0f} bytes of Redis for a message that waits")


def used_memory(place: Place) -> int:
    """Give what Redis uses now, in bytes."""
    info: Any = place.client.info("memory")
    return int(info["used_memory"])
