"""`smsq resume`: go on sending, whoever began the pause."""

from __future__ import annotations

import os

import click

from smsq_worker.cli.helpers.scope import SCOPES, read_scope
from smsq_worker.cli.helpers.writing import to_write
from smsq_worker.config.settings import Settings
from smsq_worker.inspection.formatting import pause_words, scope_words
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Control

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq resume
  smsq resume template SMS_1001
"""


@click.command(epilog=_EXAMPLES)
@click.argument("scope", nargs=-1, metavar="[account | template NAME]", shell_complete=SCOPES)
def resume(scope: tuple[str, ...]) -> None:
    """Go on sending after a pause, whatever its cause.

    The account's includes that of an outage of the gateway. If the cause is still there, the
    pause comes back by itself. Exits with 1 where nothing was paused.
    """
    asked = read_scope(scope)
    wanted = (ACCOUNT, BREAKER) if asked == ACCOUNT else (asked,)
    settings = Settings.load(os.environ)
    control = Control(to_write(settings), settings.rules)
    before = {one.scope: one for one in control.pauses()}
    done = [one for one in wanted if one in before and control.resume(one, "an operator")]
    for one in done:
        click.echo(f"resumed {scope_words(one)} ({pause_words(before.pop(one))})")
    if not done:
        others = ", ".join(map(scope_words, before))
        rest = f"; paused now: {others}" * bool(others)
        click.echo(f"{scope_words(asked)} was not paused{rest}", err=True)
    raise SystemExit(0 if done else 1)
