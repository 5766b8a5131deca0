"""The runbook has an answer to each alert, and what it tells to type can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from harness.ops_docs import OPS, RUNBOOK, documented, metrics_of, rules
from smsq_worker.cli import group

TEXT = RUNBOOK.read_text()
SECTIONS = dict(
    part.split("\n", maxsplit=1) for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
)
BLOCKS = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"`(smsq [^`]+)`", TEXT)
COMMANDS = sorted({*(line for block in BLOCKS for line in block.splitlines()), *INLINE})
ALERTS = sorted({rule["alert"] for rule in rules()})


def anchor(heading: str) -> str:
    """Give a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def parse(command: click.Command, words: Sequence[str], parent: click.Context | None) -> None:
    """Let click read a command line, of subcommands too; nothing is run."""
    name, *arguments = words
    with command.make_context(name, arguments, parent=parent) as context:
        left = [*context._protected_args, *context.args]
        if isinstance(command, click.Group) and left:
            _, inner, rest = command.resolve_command(context, left)
            assert inner is not None
            parse(inner, [left[0], *rest], context)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_section(alert: str) -> None:
    found = re.findall(r"^\*\*(\w+)\.\*\*", SECTIONS[alert], re.MULTILINE)
    assert found == ["Means", "Look", "Do", "Over"]


def test_no_section_is_of_an_alert_that_is_gone() -> None:
    assert [name for name in SECTIONS if name.startswith("Smsq")] == sorted(
        ALERTS, key=list(SECTIONS).index
    )


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("smsq ")])
def test_what_is_to_be_typed_can_be_typed(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("suppressed.csv", "numbers.csv"):
        (tmp_path / name).touch()
    typed = line.partition(" > ")[0]  # What follows is the shell's.
    parse(group(), shlex.split(typed, comments=True), None)


@pytest.mark.parametrize("wrong", ["smsq hold", "smsq held --every", "smsq held drop --every"])
def test_what_cannot_be_typed_would_be_found(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse(group(), shlex.split(wrong), None)


@pytest.mark.parametrize("target", re.findall(r"\]\(#([^)]+)\)", TEXT))
def test_what_it_refers_to_is_there(target: str) -> None:
    assert target in map(anchor, SECTIONS)


def test_the_alerts_lead_to_their_sections() -> None:
    for rule in rules():
        path, _, section = rule["annotations"]["runbook"].partition("#")
        assert OPS.parent / path == RUNBOOK
        assert section in map(anchor, SECTIONS)


def test_the_metrics_that_it_names_are_there() -> None:
    assert metrics_of(TEXT) <= documented().keys()
