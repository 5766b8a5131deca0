"""`smsq cancel`, `smsq audit`, and what asks first at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.cli import here
from harness.scene import PHONE, Scene
from harness.waiting import known
from smsq import keys
from smsq_worker.cli.helpers import asking
from smsq_worker.domain.states import Outcome


@pytest.fixture
def smsq_here(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int | str | None, str]]:
    monkeypatch.setenv("SMSQ_REDIS_URL", scene.settings.redis_url)
    monkeypatch.setenv("SMSQ_OPERATOR", "ann")

    def run(*words: str) -> tuple[int | str | None, str]:
        code, out, errors = here(monkeypatch, capsys, *words)
        assert PHONE not in out + errors
        return code, out

    return run


Run = Callable[..., tuple[int | str | None, str]]


@pytest.fixture
def asked(
    smsq_here: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run commands for somebody at a terminal who says no; give what it shows there."""

    def run(*words: str) -> tuple[int | str | None, str]:
        with monkeypatch.context() as patch:
            patch.setattr(asking, "_is_terminal", lambda: True)
            patch.setattr("sys.stdin", io.StringIO("n\n"))
            code, _, shown = here(patch, capsys, *words)
        return code, shown

    return run


def test_each_answer_is_told_and_only_cancelled_is_success(scene: Scene, smsq_here: Run) -> None:
    for name in ("m1", "m2", "m3", "m4", "m5"):
        scene.enter(name)
    scene.go("m2")
    scene.accept("m3")
    scene.call("m4", Outcome.MAYBE_SENT)
    scene.call("m5", Outcome.REFUSED)
    scene.enter("m7", key="k")
    scene.enter("m8", key="k")
    holder = "a duplicate, which is never sent; the one to cancel: m7"
    assert smsq_here("cancel", "m8") == (1, f"m8  {holder}\n")
    code, out = smsq_here("cancel", "m1")
    assert (code, out) == (0, "m1  cancelled: it certainly was not sent, and will not be\n")
    code, out = smsq_here("cancel", "m2", "m3", "m4", "m5", "m6")
    assert code == 1
    assert out.splitlines() == [
        "m2  under way: the attempt that is being made decides, and is the last",
        "m3  too late: the gateway has accepted it; it is not sent again",
        "m4  too late: an earlier attempt may have been sent; it is not sent again",
        "m5  too late: it is failed",
        "m6  nothing is known of it",
    ]
    code, out = smsq_here("cancel", "m1", "m6", "--json")
    assert (code, json.loads(out)) == (
        1,
        [
            {"id": "m1", "answer": "cancelled", "state": "cancelled", "reason": None},
            {"id": "m6", "answer": None, "state": None, "reason": None},
        ],
    )


ACTS = (
    ("cancel m1", "cancel", "1 cancelled"),
    ("cancel none", "cancel", "1 unknown"),
    ("pause template SMS_1001 --reason typo", "pause", "paused"),
    ("pause template SMS_1001", "pause", "nothing changed"),
    ("resume template SMS_1001", "resume", "resumed"),
    ("rate 5 --burst 2", "rate", "done"),
    ("rate --reset", "rate --reset", "done"),
    (f"suppressed add {PHONE} --reason asked:{PHONE}", "suppressed add", "suppressed"),
    (f"suppressed remove {PHONE}", "suppressed remove", "removed"),
    (f"suppressed remove {PHONE}", "suppressed remove", "was not suppressed"),
    ("suppressed import LIST", "suppressed import", "2 suppressed"),
    ("held resend m2", "held resend", "done, now deferred"),
    ("held drop m3", "held drop", "done, now failed"),
    ("held drop m3", "held drop", "not held, now failed"),
    ("notices replay webhook:failed:m9", "notices replay", "done"),
    ("notices drop webhook:failed:m9", "notices drop", "not among those given up"),
)


def test_every_act_of_an_operator_is_in_the_audit_stream(
    scene: Scene, smsq_here: Run, tmp_path: Path
) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("phone\n13900139000\n13900139001\n")
    scene.enter("m1")
    for name in ("m2", "m3"):
        scene.enter(name, on_ambiguous="hold")
        scene.go(name)
        scene.record(name, Outcome.MAYBE_SENT)
    scene.client.zadd(keys.DEAD_NOTICES, {"webhook:failed:m9": 1})
    scene.client.hset(keys.callback("failed", "m9"), "outcome", '{"id": "m9", "state": "failed"}')
    for line, _, _ in ACTS:
        smsq_here(*line.replace("LIST", str(listed)).split())
    scene.client.delete(keys.message("m1"))
    code, out = smsq_here("audit", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [(row["what"], row["effect"]) for row in rows] == [act[1:] for act in ACTS]
    assert {row["who"] for row in rows} == {"ann"}
    assert all(row["at"].endswith("+00:00") for row in rows)
    assert rows[0]["arguments"] == {"ids": "m1"}
    assert rows[2]["arguments"] == {"scope": "template:SMS_1001", "reason": "typo"}
    assert rows[7]["arguments"]["phone"] == "138****8000"
    assert rows[7]["arguments"]["reason"] == "asked:138****8000"


def test_the_audit_stream_is_searched_by_time_and_name(
    scene: Scene, smsq_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"who": "bob", "what": "pause", "arguments": '{"scope": "account"}', "effect": "paused"}
    scene.client.xadd(keys.AUDIT, old, id="1700000000000-1")
    monkeypatch.delenv("SMSQ_OPERATOR")
    smsq_here("pause")
    _, out = smsq_here("audit")
    first, second, count = out.splitlines()
    assert first.startswith("2023-11-1")
    assert first.endswith("  bob  pause scope=account  paused")
    assert "@" in second
    assert count == "2 acts"
    assert smsq_here("audit", "--who", "bo")[1].splitlines() == [first, "1 act"]
    assert smsq_here("audit", "--since", "1960-01-01")[1].splitlines() == [first, second, count]
    for since in ("2024-01-01", "2h", "yesterday 18:00", "昨天 18:00"):
        assert smsq_here("audit", "--since", since)[1].splitlines() == [second, "1 act"]


def test_a_date_of_the_audit_is_of_the_zone_in_which_it_is_shown(
    scene: Scene, smsq_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = datetime(2026, 1, 30, 17, tzinfo=UTC)  # The 31st in Shanghai.
    entry = {"who": "bob", "what": "pause", "arguments": "{}", "effect": "paused"}
    scene.client.xadd(keys.AUDIT, entry, id=f"{late.timestamp() * 1000:.0f}-1")
    try:
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        assert smsq_here("audit", "--since", "2026-01-31")[1].startswith("2026-01-31 01:00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_nothing_is_since_a_time_to_come(
    smsq_here: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("audit", "list", "count"):
        assert smsq_here(command, "--since", "2999-01-01")[0] == 2


def test_the_audit_stream_is_bounded_by_time(scene: Scene, smsq_here: Run) -> None:
    entry = {"who": "bob", "what": "pause", "arguments": "{}", "effect": "paused"}
    with scene.client.pipeline() as pipe:
        for n in range(300):  # Redis drops whole nodes of some 100 entries.
            pipe.xadd(keys.AUDIT, entry, id=f"1000-{n}")
        pipe.execute()
    smsq_here("pause")
    assert scene.client.xlen(keys.AUDIT) < 200


# --- asking ---------------------------------------------------------------------------------


def at_a_terminal(environ: dict[str, str], answer: str, *words: str) -> tuple[int, str]:
    """Run a command with a terminal, on which somebody types."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(ours, "rb"):
        done = subprocess.run(
            [sys.executable, "-m", "smsq_worker", *words],
            env=environ,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
            timeout=60,
        )
        os.write(theirs, b".")  # or there might be nothing to read
        shown = os.read(ours, 65_536).decode()
        os.close(theirs)
    return done.returncode, shown + done.stdout.decode()


def test_a_command_over_many_says_first_what_it_touches(
    scene: Scene, environ: dict[str, str]
) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    code, shown = at_a_terminal(environ, "n\n", "cancel", "m1", "m2")
    assert code == 1
    assert "this cancels 2 messages" in shown
    assert "nothing was done" in shown
    assert [known(name).state for name in ("m1", "m2")] == ["queued"] * 2
    code, shown = at_a_terminal(environ, "y\n", "cancel", "m1", "m2")
    assert (code, shown.count("cancelled: it certainly")) == (0, 2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("held drop --all", "this gives up 2 held messages"),
        ("held resend m1 m2", "this sends 2 held messages again: each is a possible duplicate"),
        ("notices replay --all", "this delivers 2 callbacks"),
        ("notices drop --all", "this forgets 2 callbacks"),
        ("suppressed import FILE", "this suppresses 2 numbers"),
        ("send-file FILE --template SMS_1001", "this enqueues 2 messages"),
    ],
)
def test_each_of_them_asks_and_does_nothing_without_a_yes(
    scene: Scene, environ: dict[str, str], tmp_path: Path, words: str, told: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_text("phone\n13900139000\n13900139001\n")
    for name in ("m1", "m2"):
        scene.enter(name, on_ambiguous="hold")
        scene.go(name)
        scene.record(name, Outcome.MAYBE_SENT)
        scene.client.zadd(keys.DEAD_NOTICES, {f"webhook:failed:{name}": 1})
    before = scene.client.dbsize()
    typed = words.replace("FILE", str(file)).split()
    code, shown = at_a_terminal(environ | {"SMSQ_HOME": str(tmp_path)}, "\n", *typed)
    assert code == 1
    assert told in shown
    assert "nothing was done" in shown
    assert scene.client.dbsize() == before
    assert scene.client.zcard(keys.HELD) == scene.client.zcard(keys.DEAD_NOTICES) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("suppressed add 13900139000 13900139001", "this suppresses 2 numbers"),
        ("suppressed remove 13900139000 13900139001", "this lets messages go to 2 numbers"),
        ("pause", "2 messages wait to be sent; this pauses account"),
        ("pause template SMS_1001", "2 messages wait to be sent; this pauses template SMS_1001"),
        ("resume breaker", "2 messages wait to be sent; this resumes breaker"),
        ("campaign pause spring", "campaign spring has 2 messages that wait"),
        ("campaign resume spring", "campaign spring has 2 messages that wait"),
    ],
)
def test_so_do_those_that_brake_and_let_go(scene: Scene, asked: Run, words: str, told: str) -> None:
    for name in ("m1", "m2"):
        scene.enter(name, campaign="spring")
    if words == "campaign resume spring":
        scene.client.hset(keys.campaign("spring"), "stop", "paused")
    scene.client.hset(keys.PAUSES, "breaker", '{"cause": "outage", "since": 1, "probe_at": 1}')
    code, shown = asked(*words.split())
    assert code == 1
    assert told in shown
    assert shown.endswith("nothing was done\n")
    assert not scene.client.exists(keys.AUDIT)
    assert asked(*words.split(), "--yes")[0] in {0, 1}  # 1: what is removed was not there
    assert scene.client.xlen(keys.AUDIT) > 0 or "remove" in words


def test_one_message_that_waits_is_not_asked_about(scene: Scene, asked: Run) -> None:
    scene.enter("m1", campaign="spring")
    for words in ("pause", "resume", "campaign pause spring", "suppressed add 13900139000"):
        assert asked(*words.split())[0] == 0


def test_with_yes_nobody_is_asked(scene: Scene, environ: dict[str, str]) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    code, shown = at_a_terminal(environ, "", "cancel", "m1", "m2", "--yes")
    assert code == 0
    assert "go on?" not in shown
