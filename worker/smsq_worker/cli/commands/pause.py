"""`smsq pause`: stop sending, for all workers."""

from __future__ import annotations

import os

import click

from smsq_worker.cli.helpers.scope import SCOPES, read_scope
from smsq_worker.cli.helpers.words import check_reason
from smsq_worker.cli.helpers.writing import to_write
from smsq_worker.config.settings import Settings
from smsq_worker.inspection.formatting import scope_words
from smsq_worker.ledger.admin import Control

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq pause
  smsq pause account --reason 'topping up'
  smsq pause template SMS_1001 --reason 'wrong text'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("scope", nargs=-1, metavar="[account | template NAME]", shell_complete=SCOPES)
@click.option("--reason", default="", callback=check_reason, help="Shown by status and in logs.")
def pause(scope: tuple[str, ...], *, reason: str) -> None:
    """Stop sending until `smsq resume`: all messages, or those of one template.

    Calls under way are finished, reports are still taken, and messages wait; they use up nothing
    but their ttl. Exits with 1 where an operator has paused it before.
    """
    found = read_scope(scope)
    settings = Settings.load(os.environ)
    control = Control(to_write(settings), settings.rules)
    if not control.pause(found, reason):
        click.echo(f"{scope_words(found)} is already paused by an operator", err=True)
        raise SystemExit(1)
    click.echo(f"paused {scope_words(found)}; to go on: smsq resume {scope_words(found)}")
