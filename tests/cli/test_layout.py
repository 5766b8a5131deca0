"""Every list and every overview at 60 and at 100 columns: nothing wider, no id cut."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console

from harness.cli import PHONE, here
from harness.scene import Scene
from smsq import keys
from smsq_worker.cli.helpers import output
from smsq_worker.cli.helpers.layout import fitted
from smsq_worker.cli.helpers.layout import width as columns
from smsq_worker.cli.views import demo
from smsq_worker.domain.states import Outcome

ID = str(UUID(int=0x4DD2CB4E3B394BE993A21A7D1DE3D2F5))
HELD = str(UUID(int=0x5DD2CB4E3B394BE993A21A7D1DE3D2F5))
DEAD = f"webhook:delivered:{ID}"
MID = "1151894566D2EDD9"
STATS = [f"XX:{n}" for n in range(9990, 10_000)]

# Words: what must stand in one line, whole.
SCREENS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("status",): (ID, "template SMS_1001", "deferred", "held"),
    ("status", ID): (ID, "SMS_1001", "order 7, 张三"),
    ("held",): (HELD, "138****8000", "gateway:400"),
    ("parked",): (MID, "MA:0001", "XX:9999"),
    ("notices",): (DEAD, "3 tries", "ReadTimeout"),
    ("suppressed",): ("138****8000", "operator"),
    ("explain", ID): (ID, "SMS_1001"),
    ("explain", HELD): (HELD,),
    ("explain", PHONE): (ID, HELD),
    ("rate",): ("10000/s", "SMSQ_RATE_PER_S"),
    ("codes",): ("MO:0254", "MA:0001", "permanent", "转发提交超时"),
    ("codes", "MA:0001"): ("MA:0001", "permanent"),
    ("doctor",): ("noeviction", "SMSQ_PAYLOAD_KEYS"),
    ("sandbox", "--outcomes"): ("delivered",),
    ("resume",): (),
    ("--version",): ("smsq",),
}


@pytest.fixture
def busy(scene: Scene) -> Iterator[Scene]:
    scene.enter(ID, reference="order 7, 张三")
    wakeup = {"task": "smsq.send_sms", "id": ID}
    scene.client.lpush("sms.notice", json.dumps({"headers": wakeup}))
    scene.enter(HELD, on_ambiguous="hold")
    scene.go(HELD)
    scene.record(HELD, Outcome.MAYBE_SENT, detail="gateway:400 said something rather long to that")
    scene.client.zadd(keys.PARKED, {MID: scene.now_ms()})
    stats = [json.dumps({"stat": stat}) for stat in ("MA:0001", *STATS)]
    scene.client.rpush(keys.early(MID), *stats)
    scene.client.zadd(keys.DEAD_NOTICES, {DEAD: scene.now_ms()})
    callback = {"webhook:tries": 3, "webhook:error": "ReadTimeout"}
    scene.client.hset(keys.callback("delivered", ID), mapping=callback)
    reason = "refusals: 20 in a row, the last of them: gateway:400"
    pause = {"cause": "refusals", "detail": reason, "since": 1_700_000_000_000}
    scene.client.hset(keys.PAUSES, "breaker", json.dumps(pause | {"probe_at": 1_800_000_000_000}))
    scene.control.pause("template:SMS_1001", "the text is wrong")
    entry = {"phone": PHONE, "reason": "operator, who was asked for it in a long call by a lady"}
    entry |= {"since": 1_700_000_000_000, "until": 1_900_000_000_000}
    scene.client.hset(keys.SUPPRESSED, "d", json.dumps(entry))
    yield scene
    scene.client.flushall()


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize("words", SCREENS, ids=lambda words: "-".join(words[:2]))
def test_a_screen_fits_and_cuts_no_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    busy: Scene,
    words: tuple[str, ...],
    width: int,
) -> None:
    monkeypatch.setattr(output, "terminal_columns", lambda *, err=False: width)
    monkeypatch.setattr("smsq_worker.cli.views.codes.terminal_columns", lambda: width)
    _, out, errors = here(monkeypatch, capsys, *words)
    lines = (out + errors).splitlines()
    assert [line for line in lines if columns(line) > width] == []
    assert not [line for line in lines if "…" in line]
    for name in SCREENS[words]:
        assert [line for line in lines if name in line], (name, lines)


# What callers, operators and the gateway wrote, commands and names of files and settings.
NOT_OURS = re.compile(
    "said something rather long to that|refusals: 20 in a row, the last of them: |the text is wrong"
    "|operator, who was asked for it in a long call by a lady|order 7, |smsq [a-z -]+|docs/\\S+"
    "|appendonly yes|appendfsync everysec|Name or service not known|^smsq:|Retry-After: "
)
CHINESE = [
    *(("status",), ("status", ID), ("held",), ("parked",), ("notices",), ("suppressed",)),
    *(("rate",), ("doctor",), ("resume",), ("functions",), ("send-file", "FILE", "--dry-run")),
    *(("send-file", "FILE"), ("sandbox", "--outcomes")),
]


@pytest.mark.parametrize("words", CHINESE, ids="-".join)
def test_a_screen_is_chinese_in_every_line_and_fits(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    busy: Scene,
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"phone,template\n{PHONE},SMS_1001\n{PHONE},SMS_1001\n12,SMS_1001\n")
    words = tuple(str(file) if word == "FILE" else word for word in words)
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    _, out, errors = here(monkeypatch, capsys, *words)
    for line in (out + errors).splitlines():
        assert not re.search(r"[a-z]{2,} [a-z]{2,}|[:;,](?= |$)", NOT_OURS.sub("", line)), line
    busy.control.pause("breaker", "")
    for width in (60, 100):
        monkeypatch.setattr(output, "terminal_columns", lambda *, err=False, width=width: width)
        _, out, errors = here(monkeypatch, capsys, *words)
        lines = (out + errors).splitlines()
        assert not [line for line in lines if columns(line) > width and " " in line.strip()]
        assert not [line for line in lines if line.strip()[:1] in {*"，。；：、）"}]


@pytest.mark.parametrize("width", [60, 100])
def test_the_demos_tables_fit(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False)
    longest = ("unreported", "local:key-conflict", "MO:0254", "100")
    table = demo.make_table("state", "reason", "last report", "messages")
    table.add_row(*longest)
    console.print(table)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if columns(line) > width] == []
    assert all(any(word in line for line in lines) for word in longest)


# --- one line -------------------------------------------------------------------------------


def test_a_line_that_fits_stays() -> None:
    assert list(fitted("held      3,  decide", 60)) == ["held      3,  decide"]
    assert list(fitted("x" * 200, 0)) == ["x" * 200]


def test_what_follows_is_indented_as_deep_as_the_text() -> None:
    line = "paused    account (operator: topping up the account), since yesterday"
    assert list(fitted(line, 40)) == [
        "paused    account (operator: topping up",
        "          the account), since yesterday",
    ]


def test_a_long_label_is_not_repeated_as_blanks() -> None:
    assert list(fitted(f"{ID}  2026-11-29 23:18:10+08:00  why it is", 50)) == [
        ID,
        "    2026-11-29 23:18:10+08:00  why it is",
    ]


def test_a_word_wider_than_the_line_stays_whole_on_a_line_of_its_own() -> None:
    path = "/" + "x" * 130
    assert list(fitted(f"ids         {path} and more", 60)) == [
        "ids",
        path,
        "            and more",
    ]
    assert list(fitted(path, 60)) == [path]


def test_deep_blanks_are_less_deep_in_a_narrow_terminal() -> None:
    assert list(fitted(" " * 31 + "class permanent", 60)) == ["    class permanent"]
    assert list(fitted(" " * 31 + "class permanent", 100)) == [" " * 31 + "class permanent"]


def test_chinese_is_broken_anywhere_but_before_a_closing_mark() -> None:
    text = "报告    短信仍在途中，稍后会收到最终状态报告，请耐心等待，不要重发。"
    parts = list(fitted(text, 30))
    assert max(map(columns, parts)) <= 30
    assert not [part for part in parts if part.strip()[0] in "，。"]
    assert parts[0].startswith("报告    短信")
    assert "".join("".join(parts).split()) == "".join(text.split())
