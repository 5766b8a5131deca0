"""The bench beside an earlier release: small, and what of it needs no clock."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

import pytest

from bench import release
from bench.figures import spread
from bench.peers.goals import Goal
from bench.ratio import ratio
from bench.tree import THIS, Tree, released, take_turns
from harness.paths import TESTS


def run(environ: dict[str, str], script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=TESTS,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rounds_take_turns_and_each_begins_as_often() -> None:
    old, order = Tree("old"), list[tuple[str, int]]()
    before, after = take_turns(
        4, old, THIS, lambda tree, n: order.append((tree.name, n)) or tree.name
    )
    assert (before, after) == (["old"] * 4, ["now"] * 4)
    firsts = [name for name, _ in order[::2]]
    assert firsts == ["now", "old", "now", "old"]
    assert [n for _, n in order] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("name", sorted(release.WHEELS))
def test_a_release_is_found_by_what_gets_its_environment(
    base_environ: dict[str, str], name: str
) -> None:
    script = "import smsq, smsq_worker; print(smsq.__file__, smsq_worker.__file__)"
    told = run(base_environ | released(name).environ(), script)
    assert told.count(str(release.UNPACKED / name)) == 2


def test_this_tree_needs_no_environment() -> None:
    assert THIS.environ() == {}


def test_a_ratio_lies_within_its_interval_and_equal_rounds_leave_none() -> None:
    steady = ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert steady == pytest.approx((0.5, 0.5, 0.5))
    found = ratio([1.0] * 10, [1.0, 1.2] * 5)
    assert found.low < 1.0954 < found.high
    assert found.middle == pytest.approx(1.2**0.5)


def test_the_interval_of_ten_rounds_is_students() -> None:
    before, after = [1.0] * 10, [2.718281828459045 ** (n / 10) for n in range(10)]
    low, _, high = ratio(before, after)
    logs = [n / 10 for n in range(10)]
    apart = 2.262 * statistics.stdev(logs) / 10**0.5
    assert (high / low) == pytest.approx(2.718281828459045 ** (2 * apart), rel=1e-4)


def test_one_round_tells_of_no_interval() -> None:
    assert ratio([1.0], [1.0]) == (0.0, 1.0, float("inf"))


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert spread([3.0, 1.0, 2.0]).text(1) == "2.0 (1.0 - 3.0)"


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.5, "yes"), (0.6, "yes"), (0.9, "required alone"), (0.91, "NO")]
)
def test_a_goal_tells_what_is_required_from_what_is_wished_for(value: float, verdict: str) -> None:
    goal = Goal("it", value, 0.9, "x", wish=0.6)
    assert (goal.verdict, goal.reached) == (verdict, verdict != "NO")


LONE = """
import json, tempfile
from pathlib import Path
from bench.against import lone
from bench.place import Place
from bench.tree import THIS, released

with Place(Path(tempfile.mkdtemp())).running() as place:
    for tree, situation in ((THIS, lone.BULK), (released("0.2.0"), lone.IDLE)):
        waits = lone._one(place, tree, 0, situation=situation, otps=5)
        calls = {call.phone for call in place.gateway.calls()}
        print(json.dumps([waits.p50_s, waits.p99_s, waits.cpu_s, waits.delay_s, len(calls)]))
"""


def test_a_lone_otp_is_measured_with_both_trees(
    base_environ: dict[str, str], tmp_path: os.PathLike[str]
) -> None:
    told = run(base_environ | {"TMPDIR": str(tmp_path)}, LONE)
    beside, idle = map(json.loads, told.splitlines())
    for p50, p99, cpu, delay, _ in (beside, idle):
        assert 0 < p50 <= p99
        assert min(cpu, delay) > 0
    assert beside[-1] > idle[-1] == 10
