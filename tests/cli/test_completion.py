"""Completion at the press of Tab: what the shells ask, and what they are answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import click
import pytest

from harness.cli import here, run
from smsq_worker import cli
from smsq_worker.cli.helpers.completing import VARIABLE, shape_of

Told = tuple[int | str | None, str, str]

BIN = Path(sys.executable).parent
HEAVY = {"celery", "kombu", "redis", "requests", "fastapi", "rich", "tornado", "smsq"}


Ask = Callable[..., Told]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask as the shell's script does, with the cursor at the end of the line."""

    def run(shell: str, line: str, **environ: str) -> Told:
        before, _, last = line.rpartition(" ")
        asked = {
            VARIABLE: f"{shell}_complete",
            # fish gives the words before the cursor, and the one at it.
            "COMP_WORDS": before if shell == "fish" else line,
            "COMP_CWORD": last if shell == "fish" else str(len(line.split(" ")) - 1),
        }
        for name, value in (asked | environ).items():
            monkeypatch.setenv(name, value)
        return here(monkeypatch, capsys)

    return run


def words(ask: Ask, line: str) -> list[str]:
    """Give what bash is offered."""
    code, out, errors = ask("bash", line)
    assert (code, errors) == (0, "")
    return [word.removeprefix("plain,") for word in out.split()]


def test_every_command_is_offered_and_those_that_begin_so(ask: Ask) -> None:
    assert words(ask, "smsq ") == sorted(cli.COMMANDS)
    assert words(ask, "smsq s") == [name for name in sorted(cli.COMMANDS) if name.startswith("s")]
    assert words(ask, "smsq xyzzy") == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("smsq status --", ["--json", "--watch", "--help"]),
        ("smsq explain --la", ["--last", "--lang"]),
        ("smsq explain --lang ", ["en", "zh"]),
        ("smsq send --lane ", ["otp", "notice", "bulk"]),
        ("smsq send 13800138000 SMS_1 1 --lane n", ["notice"]),
        ("smsq send-file --on-ambiguous ", ["resend", "hold"]),
        ("smsq held ", ["drop", "resend"]),
        ("smsq held resend --", ["--all", "--help"]),
        ("smsq suppressed e", ["export"]),
        ("smsq pause ", ["account", "template"]),
        ("smsq resume template ", []),
        ("smsq send-file ", ["file,"]),
        ("smsq suppressed import ", ["file,"]),
        ("smsq completion ", ["bash", "zsh", "fish"]),
        ("smsq worker --", ["--help"]),
        ("smsq worker -l INFO ", []),
        ("smsq send 'half a quote", []),
    ],
)
def test_options_choices_and_commands_below_are_offered(
    ask: Ask, line: str, offered: list[str]
) -> None:
    assert words(ask, line) == offered


def test_zsh_and_fish_are_told_what_each_is_for(ask: Ask) -> None:
    what = "Look at Redis, queues, workers, spool and gateway, and say what to change."
    assert ask("zsh", "smsq do") == (0, f"plain\ndoctor\n{what}\n", "")
    assert ask("fish", "smsq do") == (0, f"plain,doctor\t{what}\n", "")


def test_what_is_offered_is_what_the_commands_take() -> None:
    """After a change: python -m smsq_worker.cli.helpers.completing > worker/smsq_worker/cli/helpers/shape.json."""
    kept = json.loads(files("smsq_worker.cli").joinpath("shape.json").read_text("utf-8"))
    group = cli.group()
    assert kept == shape_of(group, click.Context(group, info_name="smsq"))


def test_nothing_heavy_is_imported_for_an_answer() -> None:
    code = (
        "import sys, atexit\n"
        "from smsq_worker.cli import main\n"
        "atexit.register(lambda: print({name.split('.')[0] for name in sys.modules}))\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {VARIABLE: "bash_complete", "COMP_WORDS": "smsq st", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    offered, imported = done.stdout.splitlines()
    assert offered == "plain,status"
    assert not HEAVY & set(eval(imported))


@pytest.mark.parametrize(
    "environ",
    [
        {VARIABLE: "nonsense"},
        {VARIABLE: "tcsh_complete"},
        {"COMP_CWORD": "x"},
        {"SMSQ_REDIS_URL": "http://nonsense", "SMSQ_RETENTION": "60"},
    ],
)
def test_an_error_is_met_with_silence(ask: Ask, environ: dict[str, str]) -> None:
    _, out, errors = ask("bash", "smsq xyzzy", **environ)
    assert (out.strip(), errors) == ("", "")


def test_bash_completes_with_the_script(environ: dict[str, str]) -> None:
    script = (
        'eval "$(smsq completion bash)"\n'
        "complete -p smsq >&2\n"
        'COMP_WORDS=(smsq send --lane "") COMP_CWORD=3\n'
        "_smsq_completion smsq\n"
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-euc", script],
        env=environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "otp notice bulk\n"
    assert "-F _smsq_completion smsq" in done.stderr


@pytest.mark.parametrize(("shell", "line"), [("zsh", "#compdef smsq"), ("fish", "complete ")])
def test_the_scripts_of_the_others_are_printed(
    environ: dict[str, str], shell: str, line: str
) -> None:
    done = run(environ, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout
    assert f"{VARIABLE}={shell}_complete" in done.stdout
