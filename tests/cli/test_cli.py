"""The command line: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import redis

import smsq
from harness.cli import CODE, PHONE, here, run
from smsq_worker import cli
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Admitted, Ledger

MID = "1151894566D2EDD9"
TAKES_CELERYS_HELP = {"worker", "flower"}


# --- finding one's way ----------------------------------------------------------------------


def test_help_lists_every_command(environ: dict[str, str]) -> None:
    done = run(environ, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    unwrapped = " ".join(done.stdout.split())
    for name, words in cli.COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert f" {name} {words}" in unwrapped


def test_no_command_at_all_shows_the_help(environ: dict[str, str]) -> None:
    done = run(environ)
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - TAKES_CELERYS_HELP))
def test_every_command_tells_what_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, told, errors = here(monkeypatch, capsys, name, "--help")
    assert (code, errors) == (0, "")
    assert told.startswith(f"Usage: smsq {name} ")
    assert "\nOptions:\n" in told


def test_worker_takes_celerys_own_options(environ: dict[str, str]) -> None:
    done = run(environ, "worker", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: python -m celery worker [OPTIONS]" in done.stdout
    assert "--concurrency" in done.stdout


MISSPELT = {"sandbx": "sandbox", "stauts": "status", "sned": "send", "servr": "serve"}


@pytest.mark.parametrize(("wrong", "right"), MISSPELT.items())
def test_a_misspelt_command_is_told_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str, right: str
) -> None:
    code, told, errors = here(monkeypatch, capsys, wrong, "--help")
    assert (code, told) == (2, "")
    refused, _, near = errors.partition("Did you mean")
    assert f"No such command '{wrong}'." in refused
    assert f"'{right}'" in near


@pytest.mark.parametrize("word", ["xyzzy", "--xyzzy", PHONE])
def test_what_resembles_nothing_is_told_without_a_guess(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    code, told, errors = here(monkeypatch, capsys, word)
    assert (code, told) == (2, "")
    assert "No such" in errors
    assert "Did you mean" not in errors


# --- send -----------------------------------------------------------------------------------


def test_send_enqueues_and_prints_the_id(client: redis.Redis, environ: dict[str, str]) -> None:
    done = run(
        environ,
        *("send", "+86 138-0013-8000", "SMS_1001", CODE),
        *("--lane", "otp", "--ttl", "60", "--key", "k", "--on-ambiguous", "hold"),
        *("--reference", "order 7, 张三"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    status = smsq.status(done.stdout.strip())
    assert status is not None
    assert (status.state, status.lane, status.phone) == ("queued", "otp", "138****8000")
    assert (status.template, status.reference) == ("SMS_1001", "order 7, 张三")
    assert client.llen("sms.otp") == 1
    assert client.hget(f"smsq:m:{status.id}", "hold") == "1"


def test_send_takes_a_time(client: redis.Redis, environ: dict[str, str]) -> None:
    tomorrow = datetime.fromtimestamp(client.time()[0] + 86_400).astimezone().isoformat()
    done = run(environ, "send", PHONE, "SMS_1001", "--send-at", tomorrow)
    status = smsq.status(done.stdout.strip())
    assert status is not None
    assert status.state == "deferred"


# Words after `send`: what stderr must hold.
UNSENDABLE = {
    "phone": (("12345", "SMS_1001"), "phone must be a mainland mobile number"),
    "phone-with-letters": ((f"{PHONE}x", "SMS_1001", CODE), "phone must be"),
    "phone-no-utf-8": (("\udcff", "SMS_1001"), "phone must be"),
    "template": ((PHONE, ""), "template must be a str of 1 to 64"),
    "code": ((PHONE, "SMS_1001", "7" * 501), "code must be a str of 0 to 500"),
    "code-no-utf-8": ((PHONE, "SMS_1001", "\udcff"), "code must be"),
    "lane": ((PHONE, "SMS_1001", "--lane", "fast"), "lane must be one of otp, notice, bulk"),
    "ttl": ((PHONE, "SMS_1001", "--ttl", "nan"), "ttl_s must be a number of seconds"),
    "ttl-no-number": ((PHONE, "SMS_1001", "--ttl", "soon"), "'--ttl'"),
    "send-at-naive": (
        (PHONE, "SMS_1001", "--send-at", "2030-01-01T00:00:00"),
        "which has no time zone",
    ),
    "on-ambiguous": ((PHONE, "SMS_1001", "--on-ambiguous", "x"), "one of resend, hold"),
    "no-template": ((PHONE,), "Missing argument 'TEMPLATE'"),
    "nothing": ((), "Missing argument 'PHONE'"),
}


@pytest.mark.parametrize(("words", "told"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_send_refuses_a_bad_argument_with_2_and_enqueues_nothing(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str,
) -> None:
    code, out, errors = here(monkeypatch, capsys, "send", *words)
    assert (code, out) == (2, "")
    assert told in errors
    assert PHONE not in errors
    assert client.dbsize() == 0


def test_send_of_a_bad_number_ends_with_2_and_one_line(environ: dict[str, str]) -> None:
    done = run(environ, "send", "12345", "SMS_1001", CODE)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("smsq: phone must be")


@pytest.mark.parametrize("words", [("send", PHONE, "SMS_1001", CODE), ("status", "unknown")])
def test_without_redis_a_command_ends_with_1_and_one_line(
    environ: dict[str, str], words: tuple[str, ...]
) -> None:
    address = f"127.0.0.1:{free_port()}/0"
    done = run(environ | {"SMSQ_REDIS_URL": f"redis://:hush-hush@{address}"}, *words)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"smsq: the ledger at redis://{address} (SMSQ_REDIS_URL) did not answer")
    assert "hush-hush" not in line


def test_a_wrong_password_is_told_as_that(environ: dict[str, str], client: redis.Redis) -> None:
    client.acl_setuser("operator", enabled=True, passwords=["+right"], categories=["+@all"])
    url = environ["SMSQ_REDIS_URL"].replace("redis://", "redis://operator:wr0ng-Qz@")
    try:
        for words in (("status",), ("send", PHONE, "SMS_1001", CODE)):
            done = run(environ | {"SMSQ_REDIS_URL": url}, *words)
            assert (done.returncode, done.stdout) == (1, "")
            assert "(SMSQ_REDIS_URL) rejected the user or the password" in done.stderr
            assert "wr0ng" not in done.stderr
    finally:
        client.acl_deluser("operator")


def test_version_names_what_a_ticket_needs(environ: dict[str, str]) -> None:
    done = run(environ, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"smsq \d+\.\d+\.\d+ \(Python 3\.\d+\.\S+, celery 5\.\S+, kombu 5\.\S+, redis \S+\)\n",
        done.stdout,
    )


def test_what_the_terminals_charset_lacks_is_escaped(
    environ: dict[str, str], client: redis.Redis
) -> None:
    message_id = smsq.send_sms.delay(PHONE, "SMS_1001", reference="张三").id
    done = run(environ | {"PYTHONIOENCODING": "iso-8859-1"}, "status", message_id)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"reference    \u5f20\u4e09" in done.stdout


def test_without_a_broker_a_message_is_sent_all_the_same(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    closed = {"SMSQ_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run(environ | closed, "send", PHONE, "SMS_1001", CODE)
    assert done.returncode == 0
    assert smsq.status(done.stdout.strip())
    assert "its wake-up was not published" in done.stderr


@pytest.mark.parametrize("words", [("send", PHONE, "SMS_1001"), ("status", "x")])
def test_a_bad_setting_ends_with_2_and_names_it(
    environ: dict[str, str], words: tuple[str, ...]
) -> None:
    wrong = {"SMSQ_REDIS_URL": "http://nonsense", "SMSQ_RETENTION": "60"}
    done = run(environ | wrong, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "SMSQ_RETENTION",
        "SMSQ_REDIS_URL",
    ]


# --- status ---------------------------------------------------------------------------------


@pytest.fixture
def accepted(ledger: Ledger) -> str:
    """The id of a message that the gateway has accepted at the second attempt."""
    result = smsq.send_sms.delay(PHONE, "SMS_1001", CODE, reference="order 7, 张三")
    for outcome, detail, mid in (
        (Outcome.MAYBE_SENT, "ReadTimeout", ""),
        (Outcome.ACCEPTED, "", MID),
    ):
        ledger.claim(resend_wait_s=0, empty=())  # a resend that is due is queued by the clock
        go = ledger.admit(result.id)
        assert isinstance(go, Admitted)
        ledger.record(result.id, go.attempt, outcome, detail=detail, mid=mid)
    return result.id


def test_status_shows_a_message_with_its_number_masked(
    accepted: str, environ: dict[str, str]
) -> None:
    done = run(environ, "status", accepted)
    assert (done.returncode, done.stderr) == (0, "")
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()}
    assert (shown["id"], shown["state"]) == (accepted, "accepted")
    assert (shown["phone"], shown["template"]) == ("138****8000", "SMS_1001")
    assert shown["reference"] == "order 7, 张三"
    assert datetime.fromisoformat(shown["accepted_at"]).utcoffset() is not None
    attempts = [line for line in done.stdout.splitlines() if line.startswith("attempt ")]
    assert "maybe_sent ReadTimeout" in attempts[0]
    assert f"accepted {MID}" in attempts[1]


def test_status_as_json_is_the_status(accepted: str, environ: dict[str, str]) -> None:
    done = run(environ, "status", accepted, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    status = smsq.status(accepted)
    assert status is not None
    assert (told["id"], told["state"], told["phone"]) == (accepted, "accepted", "138****8000")
    assert told["reference"] == "order 7, 张三"
    assert datetime.fromisoformat(told["enqueued_at"]) == status.enqueued_at
    assert [(attempt["n"], attempt["mid"]) for attempt in told["attempts"]] == [(1, None), (2, MID)]


@pytest.mark.parametrize("message_id", ["unknown", "", "\udcff", "x" * 10_000, "*", "\n"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_status_of_an_unknown_id_ends_with_1(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    message_id: str,
    options: tuple[str, ...],
) -> None:
    code, out, errors = here(monkeypatch, capsys, "status", message_id, *options)
    assert (code, out) == (1, "")
    (line,) = errors.splitlines()
    assert line == f"smsq: nothing is known of {message_id!r}"


def test_ctrl_c_while_it_begins_is_no_traceback(environ: dict[str, str], tmp_path: Path) -> None:
    """Its imports, before click takes over, are most of the time of a short command."""
    text = "import signal\nsignal.raise_signal(signal.SIGINT)\n"
    (tmp_path / "click.py").write_text(text, encoding="utf-8")
    for words in (["status"], ["send", "13800138000", "SMS_1001"]):
        done = subprocess.run(
            [sys.executable, "-m", "smsq_worker", *words],
            env=environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("command", ["status", "suppressed export"])
@pytest.mark.parametrize(
    ("where", "code", "errors"),
    [(">/dev/full", 1, "smsq: cannot write: No space left on device\n"), (">&-", 0, None)],
)
def test_output_that_cannot_be_written_is_said_in_one_line(
    environ: dict[str, str], command: str, where: str, code: int, errors: str | None
) -> None:
    line = f"exec {shlex.quote(sys.executable)} -W error -m smsq_worker {command} {where}"
    done = subprocess.run(
        line, shell=True, env=environ, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    told = "0 numbers exported\n" if command == "suppressed export" else ""
    assert (done.returncode, done.stderr) == (code, told if errors is None else errors)
