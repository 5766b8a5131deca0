"""`smsq report`: a day at a glance."""

from __future__ import annotations

import csv
import io
import json

import pytest

from harness.cli import run
from harness.scene import DELIVRD, Scene, stat
from smsq_worker.domain.states import Outcome


@pytest.fixture
def a_day(scene: Scene) -> Scene:
    for name in ("m1", "m2", "m3"):
        scene.call(name, Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    scene.report("m2", stat("MO:0254", "permanent"))
    scene.enter("m4", template="SMS_2", lane="otp")
    scene.go("m4")
    scene.record("m4", Outcome.MAYBE_SENT)
    return scene


def test_a_day_is_shown_in_a_line(environ: dict[str, str], a_day: Scene) -> None:
    heads, row, note = run(environ, "report").stdout.splitlines()
    assert " ".join(heads.split()) == (
        "day sent delivered failed in doubt unreported expired cancelled rate median"
    )
    assert row.split()[1:9] == ["3", "1", "1", "1", "0", "0", "0", "50.0%"]
    assert note.startswith("by when they were enqueued, in Asia/Shanghai; counted since ")


def test_it_is_split_by_what_is_asked(environ: dict[str, str], a_day: Scene) -> None:
    _heads, *rows, total, _note = run(
        environ, "report", "--by", "template,lane"
    ).stdout.splitlines()
    assert [row.split()[1:5] for row in rows] == [
        ["SMS_1001", "notice", "3", "1"],
        ["SMS_2", "otp", "0", "0"],
    ]
    assert total.split()[:4] == ["in", "all", "3", "1"]
    done = run(environ, "report", "--by", "stat", "--json")
    told = json.loads(done.stdout)
    assert {one["stat"]: one["failed"] for one in told["rows"]}["MO:0254"] == 1
    assert told["total"]["delivery_rate"] == 0.5
    (row,) = csv.DictReader(io.StringIO(run(environ, "report", "--csv").stdout))
    assert (row["sent"], row["in_doubt"]) == ("3", "1")


def test_other_days_are_asked_for(environ: dict[str, str], a_day: Scene) -> None:
    assert len(run(environ, "report", "--days", "7").stdout.splitlines()) == 3
    done = run(environ, "report", "--day", "昨天", "--lang", "zh")
    assert done.returncode == 0
    done = run(environ, "report", "--day", "2020-01-02")
    assert done.stdout.splitlines()[-1] == "nothing is counted of 2020-01-02"
    done = run(environ, "report", "--day", "0001-01-02", "--days", "40", "--csv")
    assert [row["day"] for row in csv.DictReader(io.StringIO(done.stdout))] == []
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--day", "soon"), "it takes today, yesterday or 2025-07-06"),
        (("--days", "41"), "41 is not in the range"),
        (("--by", "templat"), "did you mean template?"),
        (("--csv", "--json"), "either --csv or --json, not both"),
    ],
)
def test_what_means_nothing_is_refused(
    environ: dict[str, str], words: tuple[str, ...], why: str
) -> None:
    done = run(environ, "report", *words)
    assert done.returncode == 2
    assert why in done.stderr
