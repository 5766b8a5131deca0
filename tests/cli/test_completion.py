"""Completion at the press of Tab: what the shells ask, and what they are answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from harness.cli import here, run
from smsq.contract import Lane, OnAmbiguous
from smsq_worker import cli
from smsq_worker.bulk_import.source import GB18030, UTF_8
from smsq_worker.cli.commands.suppressed import MAX_DAYS
from smsq_worker.cli.commands.up import up
from smsq_worker.devstack.up import REDIS_OPTION, REDIS_PORT
from smsq_worker.domain.codes import UNTIL_LIFTED_S
from smsq_worker.inspection.code_text import Lang
from smsq_worker.ledger.admin import ACCOUNT

Told = tuple[int | str | None, str, str]

VARIABLE = "_SMSQ_COMPLETE"
"""What the shell's script sets, as click makes it of the program's name."""
BIN = Path(sys.executable).parent
HEAVY = {"celery", "kombu", "redis", "requests", "starlette", "rich", "tornado", "smsq"}


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
    assert words(ask, "smsq ") == list(cli.COMMANDS)
    assert words(ask, "smsq s") == [name for name in cli.COMMANDS if name.startswith("s")]
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
        ("smsq held resend --", ["--all", "--yes", "--help"]),
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
    what = cli.COMMANDS["doctor"]
    assert ask("zsh", "smsq do") == (0, f"plain\ndoctor\n{what}\n", "")
    assert ask("fish", "smsq do") == (0, f"plain,doctor\t{what}\n", "")


def test_words_that_are_offered_are_those_that_are_taken(ask: Ask) -> None:
    """What completes must import nothing heavy, so these words are written twice."""
    offered = {
        "smsq send --lane ": list(Lane),
        "smsq send --on-ambiguous ": list(OnAmbiguous),
        "smsq codes --lang ": list(Lang),
        "smsq pause ": [ACCOUNT, "template"],
        "smsq send-file --encoding ": [UTF_8, GB18030],
    }
    assert {line: words(ask, line) for line in offered} == offered
    defaults = {param.opts[0]: param.default for param in up.params if param.opts != ["--lang"]}
    assert defaults == {REDIS_OPTION: REDIS_PORT}
    assert timedelta(days=MAX_DAYS) == timedelta(seconds=UNTIL_LIFTED_S)


def imported(line: str) -> tuple[str, set[str]]:
    """What bash is offered in a process of its own, and which modules that takes."""
    code = (
        "import sys, atexit\n"
        "from smsq_worker.cli import main\n"
        "atexit.register(lambda: print(set(sys.modules)))\n"
        "main()"
    )
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {VARIABLE: "bash_complete"} | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    offered, _, modules = done.stdout.rstrip().rpartition("\n")
    return offered, eval(modules)


COMMANDS = "smsq_worker.cli.commands"


def test_a_commands_name_is_completed_without_its_module() -> None:
    offered, modules = imported("smsq st")
    assert offered == "plain,status"
    assert not {name for name in modules if name.startswith(f"{COMMANDS}.")}
    assert not HEAVY & {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_option_is_completed_with_its_commands_module_alone(name: str) -> None:
    offered, modules = imported(f"smsq {name} --")
    assert "plain,--help" in offered
    own = f"{COMMANDS}.{name.replace('-', '_')}"
    assert {one for one in modules if one.startswith(f"{COMMANDS}.")} == {own}
    assert not HEAVY & {one.partition(".")[0] for one in modules}


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
