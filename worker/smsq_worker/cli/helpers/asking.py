"""Asking before a command over many messages; a script is not asked."""

from __future__ import annotations

import sys
from typing import Final

import click

from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.i18n import _

yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask, at a terminal.")

REFUSED: Final = 1


def ask(what: str, *, yes: bool) -> None:
    """Print what a command will touch, and go on only if the operator agrees.

    Nobody is asked with --yes, nor where stdin or stderr is no terminal. Exits with 1 otherwise.
    """
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    echo(what, err=True)
    try:
        is_agreed = click.confirm(_("go on?"), default=False, err=True)
    except click.Abort:  # Ctrl-C, or the end of input
        is_agreed = False
    if not is_agreed:
        fail(_("nothing was done"), REFUSED)
