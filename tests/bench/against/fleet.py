"""Four workers that share 200 calls a second: what they use, and whether they keep the rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.figures import Report, most_in_a_second, spread, within
from bench.peers.drain import Contender, enqueue
from bench.peers.goals import Goal, judge
from bench.place import Place, until
from bench.plan import Plan
from bench.rate import AFTER_S, BEFORE_S
from bench.tree import THIS, Tree, released, take_turns

RATE: Final = 200
WORKERS: Final = 4
CPU_AT_MOST: Final = 0.5
OFF_AT_MOST: Final = 1.0
"""In percent of the rate."""


@dataclass(frozen=True)
class Shared:
    """What a round came to."""

    worker_ms: float
    """Of processor time a message, by all workers."""
    redis_ms: float
    per_s: float
    most: int
    errors: int
    left: int

    @property
    def off(self) -> float:
        """Give by how many percent the rate was missed."""
        return 100 * (self.per_s - RATE) / RATE


def run(place: Place, plan: Plan) -> Report:
    """Take turns with the release."""
    report, old = Report("fleet"), released(plan.against)
    before, after = take_turns(plan.rounds, old, THIS, partial(_one, place, seconds=plan.seconds))
    for tree, rounds in ((old, before), (THIS, after)):
        report.rows.append(
            {
                "smsq": tree.name,
                "cpu ms/message": spread(one.worker_ms for one in rounds).text(),
                "redis ms/message": spread(one.redis_ms for one in rounds).text(3),
                "achieved/s": spread(one.per_s for one in rounds).text(),
                "most/s": f"{max(one.most for one in rounds)} of {RATE + 1}",
                "errors": sum(one.errors for one in rounds),
            }
        )
    value = spread(one.worker_ms for one in after).median
    of = spread(one.worker_ms for one in before).median
    told = f"{WORKERS} workers at {RATE}/s: cpu a message, of {plan.against}"
    judge([Goal(told, value / of, CPU_AT_MOST, "x")], report)
    for one in after:
        report.promise(abs(one.off) <= OFF_AT_MOST, f"{one.off:+.2f} % off the rate")
        report.promise(one.most <= RATE + 1, f"{one.most} calls in a second")
        report.promise(one.left > 0, "the backlog was too small to tell")
        report.promise(not one.errors, f"{one.errors} errors")
    return report


def _one(place: Place, tree: Tree, _: int, *, seconds: float) -> Shared:
    place.fresh(f"fleet-{tree.name}", tree, SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1)
    backlog = int(RATE * (seconds + 2 * (BEFORE_S + AFTER_S)))
    enqueue(place, Contender("", "ours_single", "", tree=tree), 0, backlog)
    try:
        place.start_workers(WORKERS)
        place.gateway.clear()
        start = place.begin() + BEFORE_S
        until(start)
        before = place.used()
        until(start + seconds)
        after = place.used()
        until(start + seconds + AFTER_S)
        calls, left, errors = place.gateway.calls(), place.left(), len(place.errors())
    finally:
        place.stop_workers()
    sent = len(within(calls, start, start + seconds))
    return Shared(
        worker_ms=(after.worker_cpu_s - before.worker_cpu_s) / max(1, sent) * 1000,
        redis_ms=(after.redis_cpu_s - before.redis_cpu_s) / max(1, sent) * 1000,
        per_s=sent / seconds,
        most=most_in_a_second(call.at for call in calls),
        errors=errors,
        left=left,
    )
