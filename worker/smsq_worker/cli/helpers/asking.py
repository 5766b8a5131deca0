"""Asking before a command over many messages; a script is not asked. Deciding one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

import click

from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.domain.printable import escaped
from smsq_worker.i18n import _, ngettext

if TYPE_CHECKING:
    from smsq_worker.ledger.admin import Control

yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask, at a terminal.")

REFUSED: Final = 1


def ask(what: str, *, yes: bool) -> None:
    """Print what a command will touch, and go on only if the operator agrees.

    Nobody is asked with --yes, nor where stdin or stderr is no terminal. Exits with 1 otherwise.
    """
    if yes or not _is_terminal():
        return
    echo(what, err=True)
    try:
        is_agreed = click.confirm(_("go on?"), default=False, err=True)
    except click.Abort:  # Ctrl-C, or the end of input
        is_agreed = False
    if not is_agreed:
        fail(_("nothing was done"), REFUSED)


def ask_if_many_wait(control: Control, what: str, *, yes: bool) -> None:
    """Ask, as `ask` does, before what concerns all that waits, where that is several messages."""
    if yes or not _is_terminal():
        return
    live = control.live().items()
    waiting = sum(n for name, n in live if name.endswith((":queued", ":deferred")))
    if waiting > 1:
        words = ngettext("{n} message waits to be sent", "{n} messages wait to be sent", waiting)
        ask(_("{advice}; {more}", advice=words, more=what), yes=yes)


def decide_each(
    words: tuple[str, ...],
    listed: Callable[[], Iterable[str]],
    question: Callable[[int], str],
    decide: Callable[[str], tuple[bool, str]],
    *,
    none: Callable[[], str],
    yes: bool,
) -> NoReturn:
    """Decide what words name, or all that is listed where there are none; say what becomes of each.

    Where there are many it asks first. Exits with 1 where one was not done.
    """
    chosen = list(_named(words, listed))
    if not chosen:
        echo(none())
    if len(chosen) > 1:
        ask(question(len(chosen)), yes=yes)
    are_done = []
    for name in chosen:
        is_done, said = decide(name)
        are_done.append(is_done)
        echo(f"{name}  {said}")
    raise SystemExit(0 if all(are_done) else 1)


def _named(words: tuple[str, ...], listed: Callable[[], Iterable[str]]) -> Iterable[str]:
    if not words:
        return listed()
    shown = {}
    # A name of an older release may hold what is shown as an escape, and is typed as that.
    if any("\\" in word for word in words):
        shown = {escaped(name): name for name in listed()}
    return (shown.get(word, word) for word in words)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
