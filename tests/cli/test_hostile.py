"""Texts that attack a terminal, in every place of the ledger: no command shows one as it is."""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import signals

from harness.cli import here
from harness.scene import OTHER_PHONE, PHONE, Scene, mid_of
from smsq import keys
from smsq_worker.celery_worker import celery_logs
from smsq_worker.cli import COMMANDS
from smsq_worker.cli.helpers import output
from smsq_worker.domain.printable import escaped, json_text
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.logs import FORMAT, PlainLines

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eolleh\u202c\u200b\u3164\u2028\x7f[red]x[/red]\r\nEVIL"
ON_ONE_LINE = "\u200b[red]x[/red]\u202e"
SAFE = escaped(EVIL)
CAMPAIGN = "spring\x1b[2J"
HELD = "held\x1b[2J"
MID = "MID\x1b[2J"

# What reads the ledger, with words for what is in it.
WALK: dict[str, list[tuple[str, ...]]] = {
    "send": [("send", PHONE, f"SMS{EVIL}"), ("send", PHONE, "SMS_1", "--reference", EVIL)],
    "status": [("status",), ("status", "m1"), ("status", EVIL), (f"stat{EVIL}",)],
    "explain": [
        *(("explain", word) for word in ("m1", "m2", "m3", "m4", mid_of("m1", 1), "13700137000")),
        ("explain", PHONE),
        ("explain", "13912345678"),
    ],
    "list": [("list",), ("list", "--state", EVIL), ("list", "--csv"), ("list", "--after", EVIL)],
    "report": [("report", "--by", "template,lane,stat"), ("report", "--day", EVIL)],
    "count": [("count", "--by", "state,reason,template,caller,stat"), ("count", "--by", EVIL)],
    "redo": [("redo", "--template", "*", "--dry-run"), ("redo", "--campaign", EVIL, "--yes")],
    "rate": [("rate",), ("rate", EVIL), ("rate", "--account", EVIL)],
    "accounts": [("accounts",)],
    "pause": [("pause", "template", EVIL), ("pause", EVIL), ("pause", "account", EVIL)],
    "resume": [("resume", "template", "none"), ("resume", EVIL)],
    "campaign": [
        ("campaign",),
        ("campaign", "show", CAMPAIGN),
        ("campaign", "show", CAMPAIGN, "--failed", "out.csv"),
        ("campaign", "show", EVIL),
    ],
    "suppressed": [("suppressed",), ("suppressed", "add", EVIL)],
    "held": [("held",), ("held", "drop", EVIL), ("held", "drop", "m1")],
    "parked": [("parked",)],
    "cancel": [("cancel", EVIL), ("cancel", "m1", "none"), ("cancel", "m9\udcff")],
    "audit": [("audit",), ("audit", "--who", EVIL), ("audit", "--since", EVIL)],
    "notices": [("notices",), ("notices", "drop", "webhook:delivered:none")],
    "codes": [("codes",), ("codes", "MO:1234"), ("codes", EVIL)],
    "doctor": [("doctor",)],
    "send-file": [("send-file", "numbers.csv", "--dry-run")],
}
TAKES_JSON = ("status", "explain", "rate", "suppressed", "held", "parked", "notices", "codes")
TAKES_JSON += ("doctor", "send-file", "cancel", "audit", "list", "count", "campaign", "report")
TAKES_JSON += ("redo", "accounts")
SHOWS_NOTHING = {"demo", "up", "worker", "serve", "sandbox", "flower", "completion", "functions"}
"""They read nothing that others wrote, or hand over to Celery."""


@pytest.fixture
def evil(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A ledger as an older release may have left it, which took more than this one takes."""
    client = scene.client

    def spoil(name: str, **more: str) -> None:
        fields = {"template": EVIL, "reference": EVIL, "caller": EVIL, "notify": EVIL}
        client.hset(keys.message(name), mapping=fields | more)

    scene.enter("m1")
    scene.accept("m1")
    spoil("m1", **{"1:detail": EVIL, "1:stat": EVIL, "stat": EVIL, "detail": EVIL})
    day = keys.day((scene.now_ms() + 8 * 3_600_000) // 86_400_000)
    client.hset(day, mapping={f"{EVIL}\tfailed:{EVIL}\t{EVIL}": 1, f"x\tsent\t{EVIL}": 2})
    client.zadd(keys.CAMPAIGNS, {CAMPAIGN: "inf"})
    record = {"at": 1, "by": EVIL, "lane": EVIL, "template": EVIL, f"reason:{EVIL}": 1}
    client.hset(keys.campaign(CAMPAIGN), mapping=record)
    scene.enter("m2", phone=OTHER_PHONE)
    spoil("m2", otherwise=EVIL)
    scene.enter("m3", phone=OTHER_PHONE, notify="told")
    scene.go("m3")
    scene.record("m3", Outcome.REFUSED)
    reasons = {"reason": EVIL, "detail": EVIL, "1:mid": MID, "1:detail": EVIL}
    client.delete(keys.message("m3"))
    client.hset(
        keys.message("m3"),
        mapping={"state": "failed", "lane": "otp", "phone": "137****7000", "enqueued": 1000}
        | {"finished": 2000, "n": 1, "1:at": 1500, "1:outcome": "refused"}
        | reasons,
    )
    spoil("m3")
    scene.enter("m4", on_ambiguous="hold")
    scene.go("m4")
    scene.record("m4", Outcome.MAYBE_SENT)
    spoil("m4", **{"1:detail": EVIL, "1:stat": EVIL})
    client.hset(keys.message(HELD), mapping=client.hgetall(keys.message("m4")))
    client.zadd(keys.HELD, {HELD: scene.now_ms()})
    client.zadd(keys.PARKED, {MID: scene.now_ms()})
    stats = [json.dumps({"stat": stat}) for stat in (EVIL, f"x{EVIL}")]
    client.rpush(keys.early(MID), *stats)
    dead = f"webhook:delivered:{HELD}"
    client.zadd(keys.DEAD_NOTICES, {dead: scene.now_ms()})
    client.hset(
        keys.callback("delivered", HELD), mapping={"webhook:tries": 3, "webhook:error": EVIL}
    )
    for scope in (f"template:{EVIL}", "account"):
        scene.control.pause(scope, EVIL)
    entry = {"phone": PHONE, "reason": EVIL, "since": 1000, "until": 9_000_000_000_000}
    client.hset(keys.SUPPRESSED, "d", json.dumps(entry))
    client.zadd(keys.BAD, {f"message:{EVIL}": scene.now_ms()})
    task = {"task": EVIL, "id": "m3.failed", "argsrepr": "(masked)"}
    client.lpush("celery", json.dumps({"headers": task, "body": ""}))
    codes = tmp_path / "codes.toml"
    words = json_text(ON_ONE_LINE)
    codes.write_text(f'[codes."MO:1234"]\nclass = "permanent"\nen = {words}\nzh = {words}\n')
    (tmp_path / "numbers.csv").write_text(f'phone,template\n{PHONE},"SMS{EVIL}"\n', newline="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMSQ_CODES_FILE", str(codes))
    monkeypatch.setenv("SMSQ_HOME", str(tmp_path))
    yield scene
    client.flushall()


def test_every_command_is_walked() -> None:
    assert WALK.keys() | SHOWS_NOTHING == COMMANDS.keys()


@pytest.mark.parametrize("width", [0, 60], ids=["pipe", "terminal"])
def test_nothing_that_a_terminal_obeys_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    evil: Scene,
    width: int,
) -> None:
    monkeypatch.setattr(output, "terminal_columns", lambda *, err=False: width)
    shown = {}
    for name, calls in WALK.items():
        for words in calls:
            for options in ((), ("--json",))[: 1 + (name in TAKES_JSON and words[0] == name)]:
                _, out, errors = here(monkeypatch, capsys, *words, *options)
                shown[words, options] = out + errors
    for call, text in shown.items():
        assert [char for char in text if char != "\n" and escaped(char) != char] == [], call
        assert not [line for line in text.split("\n") if line.startswith("EVIL")], call
        assert PHONE not in text, call
    if not width:
        for words in (("held",), ("parked",), ("notices",), ("suppressed",), ("status", "m1")):
            assert SAFE in shown[words, ()]
        for words in (("codes",), ("codes", "MO:1234")):
            assert escaped(ON_ONE_LINE) in shown[words, ()]


def test_bytes_that_are_no_text_hide_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evil: Scene
) -> None:
    monkeypatch.delenv("SMSQ_CODES_FILE")
    client, no_text = evil.client, b"\xff\xfe"
    for name in ("m1", "m4"):
        fields = dict.fromkeys(("template", "reference", "caller", "1:detail", "stat"), no_text)
        client.hset(keys.message(name), mapping=fields)
    client.hset(keys.callback("delivered", HELD), "webhook:error", no_text)
    client.hincrby(keys.COUNTERS, no_text)
    client.zadd(keys.PARKED, {no_text: 0})
    entry = b'{"phone": "\xff", "reason": "\xff\xfe", "since": 0, "until": 9000000000000}'
    client.hset(keys.SUPPRESSED, "e", entry)
    asked = [("status",), ("status", "m1"), ("explain", "m1"), ("held",), ("notices",)]
    for words in (*asked, ("parked",), ("suppressed",)):
        code, out, errors = here(monkeypatch, capsys, *words)
        assert (code, errors) == (0, ""), words
        assert ("\ufffd\ufffd" in out) == (words != ("status",)), words


def test_what_a_worker_refuses_does_nothing_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, errors = here(monkeypatch, capsys, "worker", "--pool", EVIL)
    assert (code, out) == (2, "")
    assert f"smsq: --pool {SAFE}: workers send by threads only" in errors
    assert [char for char in errors if char != "\n" and escaped(char) != char] == []


@pytest.mark.parametrize("command", ["held", "notices"])
def test_a_name_is_taken_as_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evil: Scene, command: str
) -> None:
    name = HELD if command == "held" else f"webhook:delivered:{HELD}"
    _, out, _ = here(monkeypatch, capsys, command)
    assert escaped(name) in out
    code, out, errors = here(monkeypatch, capsys, command, "drop", escaped(name))
    assert (code, errors) == (0, ""), out
    assert evil.client.zscore(keys.HELD if command == "held" else keys.DEAD_NOTICES, name) is None


def test_a_paused_template_is_resumed_as_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], evil: Scene
) -> None:
    evil.client.delete(keys.PAUSES)
    evil.control.pause("template:a\x1b b", "")
    _, out, _ = here(monkeypatch, capsys, "status")
    assert r"until smsq resume template 'a\x1b b'" in out
    code, _, errors = here(monkeypatch, capsys, "resume", "template", r"a\x1b b")
    assert (code, errors) == (0, "")
    assert evil.paused() == {}


# --- logs -----------------------------------------------------------------------------------


def logged(record: logging.LogRecord) -> str:
    """Return a record as a worker's handler, made by Celery, writes it."""
    celery_logs.use_plain_text()
    logger, handler = logging.getLogger("celery's"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    signals.after_setup_logger.send(sender=None, logger=logger)
    return handler.format(record)


def record(text: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    found = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("x", logging.WARNING, "x.py", 1, text, args, found)


def test_a_log_shows_foreign_texts_escaped_and_begins_no_line_with_one() -> None:
    assert (
        logged(record("report %s for %s: %d", EVIL, "m1", 3)) == f"WARNING report {SAFE} for m1: 3"
    )
    assert logged(record("it fails: %s", ValueError(EVIL))) == f"WARNING it fails: {SAFE}"
    assert logged(record("Task %(name)s", {"name": EVIL})) == f"WARNING Task {SAFE}"
    assert logged(record("Cannot connect.\n%s\n", "why")) == "WARNING Cannot connect.\n    why\n"
    assert logged(record(f"an older library's\n{EVIL}")).count("\n") == 2


class Base:
    def __index__(self) -> int:
        raise ValueError(f"x\n2026-01-01 CRITICAL {EVIL}")


def test_a_traceback_is_indented_so_that_its_text_is_no_line_of_the_log() -> None:
    try:
        operator.index(Base())
    except ValueError as error:
        first, *more = logged(record("it fails", error=error)).split("\n")
    assert first == "WARNING it fails"
    assert len(more) >= 4
    assert [line for line in more if not line.startswith("    ")] == []
    assert "\x1b" not in "".join(more)


def test_a_record_stays_as_it_is_for_other_handlers() -> None:
    one = record("%s", EVIL)
    PlainLines(logging.Formatter(FORMAT)).format(one)
    assert one.getMessage() == EVIL


# --- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["plain", "验证码 1", "\u3000全角\u00a0空格", "é", "😀", r"a\x1b", "日本語", "العربية"]
)
def test_what_is_readable_stays(text: str) -> None:
    assert escaped(text) == text
    assert json.loads(json_text({"text": text}))["text"] == text
    assert text in json_text(text) or "\\" in text


def test_json_gives_back_what_it_escapes() -> None:
    for text in (EVIL, "\udc80", "\U000e0041", "a\nb"):
        shown = json_text({text: [text]}, indent=2)
        assert json.loads(shown) == {text: [text]}
        assert [char for char in shown if char != "\n" and escaped(char) != char] == []
