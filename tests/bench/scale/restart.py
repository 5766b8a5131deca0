"""The server is stopped and started while all goes on, with a long append-only file."""

from __future__ import annotations

import time
from typing import Any

from bench.figures import ms
from bench.peers.goals import Goal
from bench.place import Place, until
from bench.plan import Plan
from bench.scale.fill import Filled, queue
from bench.scale.measure import measuring
from bench.scale.result import SETTLE_S, WORKERS, Result, fresh, result
from harness.waiting import eventually
from smsq.contract import Lane

FILE_BYTES = 750e6
BEFORE_S = 3.0
CALLS_WITHIN_MS = 5000.0
"""All goes on by itself within seconds."""
PATIENCE_S = 120.0
SLICE = 10_000


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Fill the file, restart the server, and measure from a little after it is there again."""
    fresh(place, "restart")
    place.client.config_set("auto-aof-rewrite-percentage", 0)
    filled = _fill(place, FILE_BYTES * plan.size, shape)
    place.start_workers(WORKERS)
    place.begin()
    with measuring(place) as measure:
        until(time.monotonic() + BEFORE_S)
        down = time.monotonic()
        place.server.stop()
        size = _size(place)
        place.server.start()
        up = time.monotonic()
        first = _called_after(place, up)
        until(time.monotonic() + SETTLE_S)
        measure.begin()
        until(measure.began + 2 * plan.seconds)
        measure.end()
    workers = {call.worker for call in place.gateway.calls() if call.at >= up}
    return result(
        measure,
        filled,
        f"a file of {size / 1e6:.0f} MB; away for {ms(up - down)}; the first call after another "
        f"{ms(first - up)}; {len(workers)} of {WORKERS} workers went on",
        goals=[
            Goal("first call after the server's", 1000 * (first - up), CALLS_WITHIN_MS, "ms"),
            Goal("workers that went on", len(workers), WORKERS, "", at_least=True),
        ],
    )


def _fill(place: Place, size: float, shape: str) -> Filled:
    filled = Filled(0, 0, 0.0)
    info: Any = {"aof_current_size": 0}
    while filled.messages < SLICE or info["aof_current_size"] < size:
        filled = filled.plus(queue(SLICE, Lane.BULK, shape))
        info = place.client.info("persistence")
    return filled


def _size(place: Place) -> int:
    files = (place.folder / "redis").rglob("*.aof")
    return sum(one.stat().st_size for one in files)


def _called_after(place: Place, up: float) -> float:
    """Wait for the first call after the server is there again, and give its time."""
    found = eventually(
        lambda: [one.at for one in place.gateway.calls() if one.at >= up], PATIENCE_S
    )
    return found[0]
