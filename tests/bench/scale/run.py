"""Run the scenarios one after the other, each within its time."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from bench.figures import Report
from bench.outage import OUTAGE_S
from bench.peers.goals import Goal, judge
from bench.place import Place
from bench.plan import Plan
from bench.scale import (
    cancel,
    crowd,
    outage,
    queued,
    quiet,
    reports,
    restart,
    scheduled,
    select,
    unreported,
)
from bench.scale.result import Result

Scenario = Callable[[Place, Plan, str], Result]

SCENARIOS: Final[dict[str, Scenario]] = {
    "quiet": quiet.run,
    "queued": queued.run,
    "scheduled": scheduled.run,
    "unreported": unreported.run,
    "reports": reports.run,
    "restart": restart.run,
    "crowd": crowd.run,
    "outage": outage.run,
    "cancel": cancel.run,
    "select": select.run,
}
SHAPED: Final = ("queued", "outage")
"""Those that are tried in each shape."""
DEADLINE_S: Final = 300.0
FULL_S: Final = 2100.0
"""So much longer may a scenario of full size take."""


class Late(AssertionError):  # noqa: N818 - says what is so
    """A scenario took too long."""


@dataclass
class _All:
    """What came of all of them."""

    report: Report = field(default_factory=lambda: Report("scale"))
    goals: list[Goal] = field(default_factory=list)

    def take(self, name: str, result: Result) -> None:
        self.report.rows.append({"scenario": name, **result.row})
        self.report.notes += [f"{name}: {one}" for one in result.notes]
        self.goals += [one.of(name) for one in result.goals]


def run(place: Place, plan: Plan) -> Report:
    """Run those asked for; a scenario that fails does not keep the next from running."""
    found = _All()
    for name in plan.scale_only or SCENARIOS:
        for shape in plan.shapes if name in SHAPED else ("batches",):
            _one(place, plan, name, shape, found)
    judge(found.goals, found.report)
    return found.report


def _one(place: Place, plan: Plan, name: str, shape: str, found: _All) -> None:
    title = f"{name}, {shape}" if name in SHAPED else name
    began = time.monotonic()
    try:
        place.server.renew()
        outage_s = 2 * OUTAGE_S / plan.scale if name == "outage" else 0.0
        with _within(DEADLINE_S + FULL_S * plan.size + 10 * plan.seconds + outage_s):
            found.take(title, SCENARIOS[name](place, plan, shape))
    except (AssertionError, redis.RedisError) as error:
        found.report.promise(False, f"{title}: {error or 'it did not happen'}")
    finally:
        place.stop_workers()
    load = os.getloadavg()[0]
    sys.stderr.write(f"{title}: {time.monotonic() - began:.0f} s, load {load:.1f}\n")


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """End the block after so long."""

    def end(*_: Any) -> None:
        raise Late(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
