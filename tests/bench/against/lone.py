"""An otp that comes alone, and one that comes beside a full lane of bulk: how long, how dear."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bench.figures import Arrival, Report, ms, part, spread
from bench.peers.drain import UNLIMITED
from bench.peers.goals import Goal, judge
from bench.place import Place
from bench.plan import Plan
from bench.product import ACCOUNT
from bench.ratio import ratio
from bench.tree import THIS, Tree, released, take_turns
from harness.paths import TESTS
from harness.waiting import eventually

RATE: Final = 100
"""Beside bulk, so that the lane stays full and the otp waits for a slot."""
WORSE_AT_MOST: Final = 1.10
CPU_AT_MOST: Final = 0.6
OF_OTHERS: Final = 2
"""So many times their rounds: the interval is to be narrow."""
STILL_S: Final = 3.0
"""So long it is measured what a worker uses without an otp."""


SPARE_S: Final = 10.0
"""For so much longer the lane of bulk would stay full, as the machine may be slow."""


@dataclass(frozen=True)
class Situation:
    """What an otp comes to."""

    name: str
    every_s: float
    bulk_per_s: int
    """How many messages of bulk may go in a second; 0: there is none."""


IDLE: Final = Situation("idle", 0.05, 0)
BULK: Final = Situation("beside bulk", 0.1, RATE)


@dataclass(frozen=True)
class Waits:
    """What a round came to."""

    p50_s: float
    p99_s: float
    cpu_s: float
    """Of the worker, for an otp, beyond what it uses anyway."""
    delay_s: float
    """Of this, what delay() took itself: the median."""


def run(place: Place, plan: Plan) -> Report:
    """Take turns with the release, in each situation."""
    report, old, otps = Report("lone"), released(plan.against), max(5, plan.messages // 15)
    goals = list[Goal]()
    for situation in (IDLE, BULK):
        one = partial(_one, place, situation=situation, otps=otps)
        before, after = take_turns(OF_OTHERS * plan.rounds, old, THIS, one)
        goals += _compare(report, situation, plan.against, before, after)
    report.notes.append(
        f"delay() to call of {otps} otps a round, one worker; beside bulk {RATE}/s are allowed in "
        "all, and it fills the rest; gateway at 0 ms; cpu: of the worker, for an otp, beyond what "
        f"it uses in {STILL_S:.0f} s without any"
    )
    judge(goals, report)
    return report


def _compare(
    report: Report, situation: Situation, old: str, before: list[Waits], after: list[Waits]
) -> Iterator[Goal]:
    for name in ("p50_s", "p99_s"):
        then, now = ([getattr(one, name) for one in all_] for all_ in (before, after))
        found, told = ratio(then, now), f"{situation.name}: {name[:3]}"
        report.rows.append(
            {
                "otp": told,
                f"{old}": _ms(then),
                "now": _ms(now),
                "ratio": f"{found.middle:.3f}",
                "95 %": found.interval(),
            }
        )
        yield Goal(f"{told}, of {old}, the interval's end", found.high, WORSE_AT_MOST, "x")
    if not situation.bulk_per_s:
        then, now = ([one.cpu_s for one in all_] for all_ in (before, after))
        found = ratio(then, now)
        report.rows.append(
            {
                "otp": f"{situation.name}: worker's cpu",
                f"{old}": _ms(then),
                "now": _ms(now),
                "ratio": f"{found.middle:.3f}",
                "95 %": found.interval(),
            }
        )
        value = spread(now).median / spread(then).median
        yield Goal(f"{situation.name}: worker's cpu for an otp, of {old}", value, CPU_AT_MOST, "x")
    took = [ms(spread(one.delay_s for one in all_).median) for all_ in (before, after)]
    report.notes.append(f"{situation.name}: of which delay() took {took[0]}, now {took[1]}")


def _ms(seconds: Sequence[float]) -> str:
    return f"{spread(1000 * one for one in seconds).text()} ms"


def _one(place: Place, tree: Tree, n: int, *, situation: Situation, otps: int) -> Waits:
    rate = {"SMSQ_RATE_PER_S": RATE, "SMSQ_RATE_BURST": 1} if situation.bulk_per_s else UNLIMITED
    place.fresh(f"lone-{situation.name.split()[-1]}-{tree.name}", tree, **rate)
    place.gateway.set(latency=0)
    bulk = int(situation.bulk_per_s * (1.5 * otps * situation.every_s + STILL_S + SPARE_S))
    try:
        place.start_workers(1)
        with _producer(place, bulk, otps, situation.every_s, n) as producer:
            assert producer.hears() == "filled"
            place.control.resume(ACCOUNT, "the lane is full")
            producer.sends()
            still = _still(place)
            before, at = place.used().worker_cpu_s, time.monotonic()
            told = producer.sends()
            used_s = place.used().worker_cpu_s - before - still * (time.monotonic() - at)
        calls = eventually(lambda: _all(place.gateway.calls(), [phone for phone, *_ in told]))
        assert not bulk or place.left(), "the lane of bulk was not full to the end"
    finally:
        place.stop_workers()
    waits = [calls[phone].at - before for phone, before, _ in told]
    took = [took for *_, took in told]
    return Waits(part(waits, 50), part(waits, 99), max(used_s, 0.0001) / otps, part(took, 50))


class _Producer:
    """A backend under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def hears(self) -> Any:
        """Give what it says next."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def sends(self) -> list[tuple[str, float, float]]:
        """Let it send its next otps; give of each the number, the time, and what delay() took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [tuple(told) for told in iter(self.hears, "sent")]


@contextmanager
def _producer(place: Place, bulk: int, otps: int, every_s: float, seed: int) -> Iterator[_Producer]:
    words = map(str, (bulk, otps, every_s, seed))
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.against.lone_producer", *words],
        env=place.environ,
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Producer(process)
    finally:
        process.kill()
        process.communicate()


def _still(place: Place) -> float:
    """Measure what the worker uses of a core while no otp comes."""
    before = place.used().worker_cpu_s
    time.sleep(STILL_S)
    return (place.used().worker_cpu_s - before) / STILL_S


def _all(calls: Sequence[Arrival], wanted: Sequence[str]) -> dict[str, Arrival]:
    """Give the first call of each number, once all have been called."""
    found = {call.phone: call for call in reversed(calls)}
    return found if all(phone in found for phone in wanted) else {}
