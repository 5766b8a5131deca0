"""`smsq list` and `smsq count`: what they take, and what they show."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from harness.cli import PHONE, run, unmasked_run
from harness.scene import DELIVRD, OTHER_PHONE, Scene, stat
from smsq import keys
from smsq_worker.cli.helpers import selecting
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome


@pytest.fixture
def many(scene: Scene) -> Scene:
    """Four that have come to an end, each its own, and one that waits."""
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    scene.call("m2", Outcome.ACCEPTED)
    scene.report("m2", stat("MO:0254", "permanent"))
    scene.enter("m3", phone=OTHER_PHONE, lane="otp", reference="=1+1")
    scene.run_out_of_ttl("m3")
    scene.enter("m4", phone=OTHER_PHONE, template="SMS_2", key="order-7")
    return scene


def ids(environ: dict[str, str], *words: str) -> list[str]:
    done = unmasked_run(environ, "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [one["id"] for one in json.loads(done.stdout)["messages"]]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["m4", "m3", "m2", "m1"]),
        (("--state", "failed,delivered"), ["m2", "m1"]),
        (("--state", "exp*", "--state", "queued"), ["m4", "m3"]),
        (("--reason", "report:MO:*"), ["m2"]),
        (("--reason", "MO:0254"), ["m2"]),
        (("--reason", "mo254,expired"), ["m2"]),
        (("--reason", "MO:*"), ["m2"]),
        (("--reason", "*:0254"), ["m2"]),
        (("--reason", "400,suppressed"), []),
        (("--template", "SMS_2"), ["m4"]),
        (("--lane", "otp", "--template", "SMS_2"), []),
        (("--phone", f"+86 {OTHER_PHONE}"), ["m4", "m3"]),
        (("--key", "order-7"), ["m4"]),
        (("--reference", "=1+1"), ["m3"]),
        (("--since", "1h ago", "--until", "2030-01-01"), ["m4", "m3", "m2", "m1"]),
        (("--until", "1h ago"), []),
        (("--scan", "--state", "failed"), ["m2"]),
    ],
)
def test_messages_are_listed_by_what_is_asked(
    environ: dict[str, str], many: Scene, words: tuple[str, ...], found: list[str]
) -> None:
    assert ids(environ, *words) == found


def test_a_page_says_how_to_go_on(environ: dict[str, str], many: Scene) -> None:
    environ = environ | {"TZ": "Asia/Shanghai"}
    done = run(environ, "list", "--limit", "3")
    *rows, end, more = done.stdout.splitlines()
    assert [row.split("  ")[-1].strip() for row in rows][:1] == ["m4"]
    assert end == "3 messages; times in Asia/Shanghai (+0800)"
    assert "+08:00  queued      notice  SMS_2  139****9000  m4" in rows[0]
    words = more.removeprefix("more: the same with ").split()
    (row, end) = run(environ, "list", "--limit", "3", *words).stdout.splitlines()
    assert row.endswith("SMS_1001  138****8000  m1  DELIVRD")
    assert end.startswith("1 message; ")


def test_what_is_compared_by_its_mask_is_said(environ: dict[str, str], many: Scene) -> None:
    done = unmasked_run(environ, "list", "--phone", OTHER_PHONE)
    assert done.stdout.decode().splitlines()[-1] == (
        "1 of them has ended, and is compared by the mask of its number, 139****9000: it may be "
        "another number's"
    )


def test_csv_is_a_file_without_formulas(environ: dict[str, str], many: Scene) -> None:
    done = run(environ, "list", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == ["m4", "m3", "m2", "m1"]
    assert rows[1]["reference"] == "'=1+1"
    assert rows[0]["phone"] == "139****9000"
    assert done.stderr.startswith("4 messages; ")


def test_messages_are_counted_by_what_is_asked(environ: dict[str, str], many: Scene) -> None:
    done = run(environ, "count", "--by", "lane,state")
    *rows, end = done.stdout.splitlines()
    assert [row.split() for row in rows] == [
        ["1", "notice", "delivered"],
        ["1", "notice", "failed"],
        ["1", "notice", "queued"],
        ["1", "otp", "expired"],
    ]
    assert end.split()[:3] == ["4", "in", "all;"]
    told: dict[str, Any] = json.loads(run(environ, "count", "--by", "hour,state", "--json").stdout)
    assert told["total"] == 4
    assert {one["state"] for one in told["groups"]} == {"delivered", "failed", "queued", "expired"}
    assert all(one["hour"].endswith(":00:00+00:00") for one in told["groups"])
    assert run(environ, "count", "--state", "held").stdout.split()[:3] == ["0", "in", "all;"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("list", "--state", "faild"), "did you mean failed?"),
        (("list", "--lane", "opt"), "did you mean otp?"),
        (("list", "--since", "soon"), "it takes a time like 10:00, yesterday 10:00, 2025-07-06"),
        (("list", "--since", "1h ago", "--until", "2h ago"), "--since must be before --until"),
        (("list", "--phone", "123"), "phone must be a mainland mobile number"),
        (("list", "--after", "x"), "it takes what a page ended with"),
        (("list", "--csv", "--json"), "either --csv or --json, not both"),
        (("list", "--limit", "0"), "0 is not in the range"),
        (("count", "--by", "reasn"), "did you mean reason?"),
    ],
)
def test_what_means_nothing_is_refused(
    environ: dict[str, str], client: redis.Redis, words: tuple[str, ...], why: str
) -> None:
    done = run(environ, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in " ".join(done.stderr.split())


def test_a_forgotten_message_is_left_out(environ: dict[str, str], many: Scene) -> None:
    many.client.delete(keys.message("m2"))
    assert ids(environ) == ["m4", "m3", "m1"]


def test_nothing_that_is_shown_has_a_number(environ: dict[str, str], many: Scene) -> None:
    for form in ((), ("--json",), ("--csv",)):
        told = run(environ, "list", *form).stdout
        assert PHONE not in told
        assert OTHER_PHONE not in told


def test_the_relays_callers_are_read_as_the_api_reads_them(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Where they are not, the keys of none of them are found, and all else is."""
    file = tmp_path / "callers.toml"
    environ["SMSQ_RELAY_CALLERS_FILE"] = str(file)
    for text, names in (("[callers.shop]\nsecret = 'x'", ["shop"]), ("[callers", [])):
        file.write_text(text, encoding="utf-8-sig")
        assert selecting._callers(Settings.load(environ)) == names


def test_a_user_that_may_run_no_script_is_told_so(
    environ: dict[str, str], many: Scene, client: redis.Redis
) -> None:
    client.acl_setuser("seer", True, nopass=True, keys=["*"], commands=["+@all", "-evalsha"])
    url = environ["SMSQ_REDIS_URL"].replace("redis://", "redis://seer:any@")
    try:
        for words in (("list",), ("count",), ("redo", "--since", "1h ago", "--dry-run")):
            done = run(environ | {"SMSQ_REDIS_URL": url}, *words)
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert "(SMSQ_REDIS_URL) refused the command: " in line
    finally:
        client.acl_deluser("seer")
