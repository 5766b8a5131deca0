"""The bench of scale: small, and what of it needs no clock."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from bench import release, shapes
from bench.figures import Arrival, Report, table
from bench.peers.goals import Goal, judge
from bench.scale import fill, queues
from bench.scale.probes import Otp, Otps
from bench.shapes import SHAPES, split
from harness.paths import TESTS
from smsq import keys
from smsq.app import app
from smsq.contract import Lane


def bench(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=TESTS,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_small_run_measures_and_judges_and_leaves_no_data(
    base_environ: dict[str, str], tmp_path: Path
) -> None:
    words = "-m bench --only scale --scale-only queued --size 0.0005 --seconds 1 --shapes both"
    done = bench(base_environ | {"TMPDIR": str(tmp_path)}, *words.split())
    assert done.returncode in {0, 1}, done.stderr  # 1: this machine misses a goal
    for told in ("queued, both: otp, delay() to call p99", "queued, both: wake-ups", "memory MB"):
        assert told in done.stdout
    figures = dict(re.findall(r"^(\S+(?: \S+)*) {2,}(\S.*)$", done.stdout, re.MULTILINE))
    assert (figures["never"], figures["errors"]) == ("0", "0")
    assert int(figures["otps"]) > 0
    assert len(set(figures["named"].split("/"))) == 1
    assert not list(tmp_path.rglob("*.aof"))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_filled_is_what_the_queues_name(client: redis.Redis, shape: str) -> None:
    filled = fill.queue(250, Lane.BULK, shape)
    waiting = queues.waiting(place_of(client))
    assert (waiting.wakeups, waiting.names, waiting.messages) == (filled.wakeups, 250, 250)
    assert waiting.wakeups == {"singles": 250, "batches": 3, "both": 2 + 125}[shape]
    assert client.hgetall(keys.LIVE) == {"bulk:queued": "250"}


def test_a_wake_up_that_was_published_again_shows(client: redis.Redis) -> None:
    (message_id, *_) = shapes.enqueue(100, Lane.BULK, "batches").values()
    app.send_task("smsq.send_sms", task_id=message_id, queue=Lane.BULK.queue, ignore_result=True)
    waiting = queues.waiting(place_of(client))
    assert (waiting.wakeups, waiting.names, waiting.messages) == (2, 101, 100)


def test_what_is_scheduled_has_no_wake_up(client: redis.Redis) -> None:
    filled = fill.queue(150, Lane.BULK, "both", send_at=fill.time.time() + 3600)
    assert (filled.messages, filled.wakeups, queues.length(place_of(client))) == (150, 0, 0)
    assert client.hgetall(keys.LIVE) == {"bulk:deferred": "150"}


def test_both_shapes_take_turns() -> None:
    slices = list(split([str(n) for n in range(350)], "both"))
    assert [(is_batch, len(phones)) for is_batch, phones in slices] == [
        (True, 100),
        (False, 100),
        (True, 100),
        (False, 50),
    ]


def test_an_otp_that_never_arrived_misses_the_goal() -> None:
    otps: Any = Otps(place_of(None), SimpleNamespace())
    otps.sent = [Otp("1", "", 1.0, 0.1, None, ""), Otp("2", "", 2.0, 0.1, None, "")]
    otps.first = {"1": Arrival(1.2, 0.0, "1", "w", "ok", "m")}
    assert otps.waits() == [pytest.approx(0.2), math.inf]
    report = Report("scale")
    judge([Goal("otp", max(otps.waits()), 300, "ms")], report)
    assert report.broken == ["otp: inf ms, bound <= 300 ms"]


def test_a_scenario_without_an_otp_misses_the_goal() -> None:
    assert not Goal("otp", math.nan, 300, "ms").reached


def test_few_long_rows_stand_side_by_side() -> None:
    row = {f"figure {n}": n for n in range(10)}
    assert table([row, row]).splitlines()[3].split() == ["figure", "3", "3", "3"]


@pytest.mark.parametrize("name", sorted(release.WHEELS))
def test_it_runs_with_the_code_of_an_earlier_release(
    base_environ: dict[str, str], name: str
) -> None:
    script = f"from bench import release; release.become({name!r})"
    done = bench(base_environ, "-c", script, "--help")
    assert f"smsq {name}." in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--shapes", "heaps"), "no shape heaps"),
        (("--scale-only", "queue"), "scale has no scenario queue"),
        (("--release", "9.9"), "no release 9.9; there are"),
    ],
)
def test_a_wrong_word_is_told(
    base_environ: dict[str, str], option: tuple[str, str], told: str
) -> None:
    done = bench(base_environ, "-m", "bench", *option)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def place_of(client: redis.Redis | None) -> Any:
    return SimpleNamespace(client=client)
