"""What a message costs Redis over its life, act by act: this tree's beside another's.

    make bench ONLY=acts BASE=<commit, or 0.2.0>
    make bench ONLY=campaign      # of one in a campaign, beside one in none; see beside.py

CPU is Redis' own, so neither the machine's other work nor our Python counts. Rounds of both trees
in turn, so that what disturbs meets both. "to accepted" and "to delivered" are sums of acts; the
broker's part is not in them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Final

from bench.figures import Report
from bench.peers.drain import UNLIMITED
from bench.place import Place
from bench.plan import Plan
from bench.product import ACCOUNT
from bench.release import WHEELS
from bench.tree import committed, released
from harness.paths import TESTS

ROUNDS: Final = 5
AT_ONCE: Final = (1, 25)
OF_A_LIFE: Final = {
    "to accepted": ("enter", "admit", "record"),
    "to delivered": ("enter", "admit", "record", "take in", "report"),
}

Figures = dict[str, list[float]]


def run(place: Place, plan: Plan) -> Report:
    """Take turns, and compare."""
    report = Report(f"acts beside {plan.base}: us of Redis' CPU, commands, append-only bytes")
    _take_turns(place, plan, report, {"before": (_path(plan.base), ""), "after": ("", "")})
    return report


def in_a_campaign(place: Place, plan: Plan) -> Report:
    """Compare a message in a campaign with one in none."""
    report = Report("in a campaign beside none: us of Redis' CPU, commands, append-only bytes")
    _take_turns(place, plan, report, {"before": ("", ""), "after": ("", "spring")})
    return report


def _take_turns(place: Place, plan: Plan, report: Report, ways: dict[str, tuple[str, str]]) -> None:
    """Add the rows of two ways, each the path of the code and the campaign."""
    for at_once in AT_ONCE:
        found: dict[str, list[Figures]] = {"before": [], "after": []}
        for n in range(ROUNDS):
            for which in list(ways) if n % 2 else list(ways)[::-1]:
                found[which].append(_life(place, *ways[which], plan.messages, at_once))
        before, after = map(_medians, found.values())
        for stage in after:
            report.rows.append(_row(at_once, stage, before[stage], after[stage]))


def _life(place: Place, path: str, campaign: str, messages: int, at_once: int) -> Figures:
    place.fresh("acts", **UNLIMITED)
    place.control.resume(ACCOUNT, "nothing is to wait for")
    numbers = (str(messages), str(at_once))
    command = [sys.executable, "-m", "bench.life", *numbers, *filter(None, [campaign])]
    environ = place.environ | ({"PYTHONPATH": path} if path else {})
    done = subprocess.run(command, env=environ, cwd=TESTS, stdout=subprocess.PIPE, check=True)
    stages: Figures = json.loads(done.stdout)
    for name, parts in OF_A_LIFE.items():
        stages[name] = [sum(figures) for figures in zip(*map(stages.get, parts), strict=True)]  # type: ignore[arg-type]
    return stages


def _medians(rounds: list[Figures]) -> Figures:
    return {
        stage: [median(figures) for figures in zip(*(one[stage] for one in rounds), strict=True)]
        for stage in rounds[0]
    }


def _row(at_once: int, stage: str, before: list[float], after: list[float]) -> dict[str, object]:
    def pair(n: int, digits: int) -> str:
        return f"{before[n]:.{digits}f} -> {after[n]:.{digits}f}"

    return {
        "an act": at_once,
        "stage": stage,
        "cpu us": pair(0, 0),
        "ratio": f"{after[0] / before[0]:.2f}",
        "commands": pair(1, 1),
        "bytes": pair(2, 0),
    }


def _path(base: str) -> str:
    """Return the PYTHONPATH of a release or a commit."""
    tree = released(base) if base in WHEELS else committed(base)
    return tree.environ()["PYTHONPATH"]
