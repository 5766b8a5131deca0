"""This tree beside another commit's: rounds of both in turn, so that what disturbs meets both.

    make bench ONLY=beside BASE=<commit>

A figure got no worse where the 95 % interval of its ratio, over the rounds, reaches 1.0.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Final

from bench.figures import Report
from bench.peers.drain import Contender, drain
from bench.place import Place
from bench.plan import Plan
from bench.ratio import ratio
from bench.tree import committed, take_turns

ROUNDS: Final = 10
LATENCY_S: Final = 0.1
SHAPES: Final = (Contender("delay()", "ours_single", ""), Contender("send_many", "ours_bulk", ""))
FIGURES: Final = {
    "worker's cpu a message": lambda one: one.worker_s / one.messages * 1000,
    "Redis' cpu a message": lambda one: one.redis_s / one.messages * 1000,
    "enqueueing a message": lambda one: 1000 / one.enqueued_per_s,
}
"""Each in ms, so that less is better."""


def run(place: Place, plan: Plan) -> Report:
    """Take turns, and compare."""
    report = Report(f"beside {plan.base}")
    base, messages = committed(plan.base), max(1, plan.messages // 3)
    for shape in SHAPES:
        before, after = take_turns(
            ROUNDS,
            base,
            lambda tree, _, one=shape: drain(place, replace(one, tree=tree), LATENCY_S, messages),
        )
        for name, figure in FIGURES.items():
            told = f"{shape.name}: {name}"
            _compare(report, told, [*map(figure, before)], [*map(figure, after)])
    return report


def _compare(report: Report, name: str, before: list[float], after: list[float]) -> None:
    found = ratio(before, after)
    report.rows.append(
        {
            "figure": name,
            "before": f"{statistics.mean(before):.3f} ms",
            "after": f"{statistics.mean(after):.3f} ms",
            "ratio": f"{found.middle:.3f}",
            "95 %": found.interval(),
        }
    )
    told = f"{name}: {found.middle:.3f} of what it was, at least {found.low:.3f}"
    report.promise(found.low <= 1.0, told)
