"""The commands' help in the language of now: docstrings and options are translated in one place."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from typing import Final

import click

from smsq_worker.cli.helpers.layout import by_columns, restored
from smsq_worker.i18n import Lang, _, language

_AS_IT_IS: Final = "\b"
"""What follows it is not wrapped."""
_BESIDE: Final = re.compile(r"( +\S.*?\S {2,})(\S.*)")
"""A line of an example, and what it is for."""


class HelpContext(click.Context):
    """A context whose command's help is in the language of now."""

    def get_help(self) -> str:
        """Return the help of the command."""
        return restored(translated(self.command).get_help(self))


def translated(command: click.Command) -> click.Command:
    """Return a command with the same options, whose texts are in the language of now."""
    twin = copy.copy(command)
    twin.help, twin.epilog = (
        by_paragraphs(text, _translated) for text in (command.help, command.epilog)
    )
    twin.short_help = _summary(command)
    twin.params = [_option(param) for param in command.params]
    forget_help_option(twin)
    if isinstance(twin, click.Group):
        twin.commands = {name: translated(inner) for name, inner in twin.commands.items()}
    return twin


def forget_help_option(command: click.Command) -> None:
    """Make click build a command's --help anew: it keeps one, in the language of then."""
    command._help_option = None  # noqa: SLF001


def _option(param: click.Parameter) -> click.Parameter:
    if not isinstance(param, click.Option) or not param.help:
        return param
    twin = copy.copy(param)
    twin.help = _translated(one_line(param.help))
    if isinstance(param.type, click.Path):
        twin.metavar = by_columns(_(param.type.name).upper())
    return twin


def _summary(command: click.Command) -> str | None:
    """Return what the list of commands says; click makes one of the help, but only of English."""
    if command.short_help:
        return _translated(command.short_help)
    if language() is Lang.EN or not command.help:
        return None
    return _translated(one_line(_paragraphs(command.help)[0])).partition("。")[0]


def by_paragraphs(text: str | None, say: Callable[[str], str]) -> str | None:
    """Return a help text or epilog of which each paragraph is said in another way."""
    if text is None:
        return None
    return "\n\n".join(
        _lines(part, say) if part.startswith(_AS_IT_IS) else say(one_line(part))
        for part in _paragraphs(text)
    )


def _lines(part: str, say: Callable[[str], str]) -> str:
    """Translate the headings among some lines, and what stands beside an example."""
    lines = []
    for line in part.splitlines():
        if beside := _BESIDE.fullmatch(line):
            lines.append(beside[1] + say(beside[2]))
        else:
            lines.append(line if line.startswith((" ", _AS_IT_IS)) else say(line))
    return "\n".join(lines)


def _paragraphs(text: str | None) -> list[str]:
    return list(filter(None, inspect.cleandoc(text or "").split("\n\n")))


def _translated(text: str) -> str:
    return by_columns(_(text))


def one_line(text: str) -> str:
    """Return a text however its source wraps it, so that wrapping anew keeps its translation."""
    return " ".join(text.split())
