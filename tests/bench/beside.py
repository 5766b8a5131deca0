"""This tree beside another commit's: rounds of both in turn, so that what disturbs meets both.

    make bench ONLY=beside BASE=<commit>

A figure got no worse where the 95 % interval of its ratio, over the rounds, reaches 1.0.
"""

from __future__ import annotations

import math
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.figures import Report
from bench.peers.drain import Contender, Drained, drain
from bench.place import Place
from bench.plan import Plan
from bench.release import UNPACKED
from harness.paths import ROOT

ROUNDS: Final = 10
T_95: Final = 2.262
"""Student's t for as many rounds."""
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
    tree = unpacked(plan.base)
    messages = max(1, plan.messages // 3)
    for shape in SHAPES:
        before, after = list[Drained](), list[Drained]()
        for n in range(ROUNDS):
            turns = [(before, replace(shape, tree=str(tree))), (after, shape)]
            for figures, contender in turns if n % 2 else turns[::-1]:
                figures.append(drain(place, contender, LATENCY_S, messages))
        for name, figure in FIGURES.items():
            _compare(
                report,
                f"{shape.name}: {name}",
                *map(list, (map(figure, before), map(figure, after))),
            )
    return report


def _compare(report: Report, name: str, before: list[float], after: list[float]) -> None:
    logs = [math.log(now / then) for then, now in zip(before, after, strict=True)]
    middle, apart = statistics.mean(logs), T_95 * statistics.stdev(logs) / math.sqrt(len(logs))
    low, ratio, high = (math.exp(middle + by) for by in (-apart, 0, apart))
    report.rows.append(
        {
            "figure": name,
            "before": f"{statistics.mean(before):.3f} ms",
            "after": f"{statistics.mean(after):.3f} ms",
            "ratio": f"{ratio:.3f}",
            "95 %": f"{low:.3f} - {high:.3f}",
        }
    )
    report.promise(low <= 1.0, f"{name}: {ratio:.3f} of what it was, at least {low:.3f}")


def unpacked(commit: str) -> Path:
    """Unpack a commit of this repository, and return where."""
    folder = UNPACKED / commit
    folder.mkdir(parents=True, exist_ok=True)
    command = ["git", "archive", commit, "producer", "worker"]
    archive = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder
