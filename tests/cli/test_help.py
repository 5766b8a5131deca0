"""Every command's help, held to one measure; and what is told of a misspelt word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
import redis

from harness.cli import here
from smsq_worker import cli

LISTS = {
    *("status", "explain", "codes", "rate", "held", "parked", "notices", "suppressed"),
    *("suppressed list", "doctor", "send-file", "sandbox"),
}
ALWAYS_0_OR_2 = {
    *("sandbox", "serve", "up", "rate", "held", "parked", "notices", "completion"),
    *("campaign", "suppressed", "suppressed list", "suppressed add", "suppressed export"),
}
"""They can fail with 1 only as every command can: where Redis is away."""


def walk(group: click.Group, ctx: click.Context, before: str = "") -> Iterator[tuple[str, str]]:
    """Give each command's name and help, those below a command too."""
    for name in group.list_commands(ctx):
        _, command, _ = group.resolve_command(ctx, [name])
        assert command is not None
        inner = click.Context(command, parent=ctx, info_name=name)
        yield f"{before}{name}", command.get_help(inner)
        if isinstance(command, click.Group):
            yield from walk(command, inner, f"{before}{name} ")


GROUP = cli.group()
HELPS = dict(walk(GROUP, click.Context(GROUP, info_name="smsq")))


@pytest.mark.parametrize("name", HELPS)
def test_every_command_has_worked_examples(name: str) -> None:
    _, _, examples = HELPS[name].partition("\n  Examples:\n")
    commands = re.findall(r"\bsmsq ((?:[a-z-]+ ?)+)", examples)
    assert any(f"{words} ".startswith(f"{name} ") for words in commands), HELPS[name]


@pytest.mark.parametrize("name", sorted(set(HELPS) - {"worker", "flower"}))
def test_every_example_takes_options_that_are_there(name: str) -> None:
    told, _, examples = HELPS[name].partition("\n  Examples:\n")
    for line in re.findall(rf"\bsmsq {name}( .*|$)", examples, re.MULTILINE):
        for option in re.findall(r"(?<!\S)--[a-z-]+", line.partition("|")[0]):
            helps = [told, *(HELPS[below] for below in HELPS if below.startswith(f"{name} "))]
            assert any(re.search(rf"^  {option}\b", one, re.MULTILINE) for one in helps), line


@pytest.mark.parametrize("name", sorted(set(HELPS) - ALWAYS_0_OR_2))
def test_a_command_that_can_say_no_tells_with_which_exit_code(name: str) -> None:
    told = " ".join(HELPS[name].split())
    assert re.search(r"Exits with [12]|exit code is 1", told), told


@pytest.mark.parametrize("name", sorted(LISTS))
def test_what_lists_something_lists_it_as_json(name: str) -> None:
    assert re.search(r"^  --json ", HELPS[name], re.MULTILINE)


# Words: what stderr must hold.
MISSPELT = {
    "command": (("explian", "x"), "No such command 'explian'. Did you mean 'explain'?"),
    "below held": (("held", "resnd"), "No such command 'resnd'. Did you mean 'resend'?"),
    "below notices": (("notices", "repaly"), "Did you mean 'replay'?"),
    "below suppressed": (("suppressed", "exprot"), "Did you mean 'export'?"),
    "option": (("status", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
    "option below": (("held", "drop", "--al"), "--all"),
    "scope": (("pause", "acount"), "did you mean account?"),
    "stat code": (("codes", "MA:001x"), "MA:001X is not in the catalogue; did you mean MA:0"),
    "choice": (("completion", "bsh"), "'bash'"),
}


@pytest.mark.parametrize(("words", "told"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_word_is_told_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str,
) -> None:
    code, out, errors = here(monkeypatch, capsys, *words)
    assert (code, out) == (1 if words[0] == "codes" else 2, "")
    assert told in " ".join(errors.split())


def test_nothing_is_guessed_below_a_command_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = here(monkeypatch, capsys, "held", "xyzzy")
    assert code == 2
    assert "Did you mean" not in errors


# Those that tests/config/test_settings.py starts are left out.
ROLES = [
    *(("demo",), ("doctor",), ("status",), ("explain", "x"), ("codes",), ("rate",), ("pause",)),
    *(("resume",), ("held",), ("parked",), ("notices",), ("suppressed",), ("send-file", "-")),
]


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
def test_a_misspelt_setting_is_told_by_every_role(
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("SMSQ_READ_TIMEOUT", "3")
    code, out, errors = here(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    (line,) = errors.splitlines()
    assert line == "smsq: SMSQ_READ_TIMEOUT: no such setting; did you mean SMSQ_READ_TIMEOUT_S?"
