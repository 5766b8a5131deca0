"""This tree beside another commit's: rounds of both in turn, so that what disturbs meets both.

    make bench ONLY=beside BASE=<commit>
    make bench ONLY=campaign     # messages in a campaign, beside such in none; see acts.py

A figure got no worse where the 95 % interval of its ratio, over the rounds, reaches 1.0.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Final

from bench import acts
from bench.figures import Report, table
from bench.peers.drain import Contender, drain
from bench.place import Place
from bench.plan import Plan
from bench.ratio import ratio
from bench.tree import committed, take_turns

OF_OTHERS: Final = 2
"""So many times the other scenarios' rounds: the interval is to be narrow."""
LATENCY_S: Final = 0.1
SHAPES: Final = (Contender("delay()", "ours_single", ""), Contender("send_many", "ours_bulk", ""))
FIGURES: Final = {
    "worker's cpu a message": lambda one: one.worker_s / one.messages * 1000,
    "Redis' cpu a message": lambda one: one.redis_s / one.messages * 1000,
    "enqueueing a message": lambda one: 1000 / one.enqueued_per_s,
}
"""Each in ms, so that less is better."""
IN_A_CAMPAIGN: Final = 1.05


def run(place: Place, plan: Plan) -> Report:
    """Take turns, and compare."""
    report, base = Report(f"beside {plan.base}"), committed(plan.base)
    for shape in SHAPES:
        _take_turns(place, plan, report, replace(shape, tree=base), shape)
    return report


def in_a_campaign(place: Place, plan: Plan) -> Report:
    """Compare messages in a campaign with such in none, by acts and by workers."""
    report, of_workers = acts.in_a_campaign(place, plan), Report("in a campaign")
    for shape in SHAPES:
        one = replace(shape, module=f"{shape.module}_in_campaign")
        _take_turns(place, plan, of_workers, shape, one, at_most=IN_A_CAMPAIGN)
    report.notes.append(table(of_workers.rows))
    report.broken += of_workers.broken
    return report


def _take_turns(
    place: Place,
    plan: Plan,
    report: Report,
    before: Contender,
    after: Contender,
    *,
    at_most: float = 1.0,
) -> None:
    messages = max(1, plan.messages // 3)
    rounds = take_turns(
        OF_OTHERS * plan.rounds,
        before,
        after,
        lambda one, _: drain(place, one, LATENCY_S, messages),
    )
    for name, figure in FIGURES.items():
        _compare(report, f"{after.name}: {name}", *([*map(figure, of)] for of in rounds), at_most)


def _compare(
    report: Report, name: str, before: list[float], after: list[float], at_most: float
) -> None:
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
    report.promise(found.low <= at_most, told)
