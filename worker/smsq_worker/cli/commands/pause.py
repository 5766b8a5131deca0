"""`smsq pause`: stop sending, for all workers."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import check_reason, examples
from smsq_worker.cli.helpers.output import fail
from smsq_worker.cli.helpers.scope import read_scope, scope_argument


@click.command(
    epilog=examples(
        "smsq pause",
        "smsq pause account --reason 'topping up'",
        "smsq pause template SMS_1001 --reason 'wrong text'",
    )
)
@scope_argument
@click.option("--reason", default="", callback=check_reason, help="Shown by status and in logs.")
def pause(scope: tuple[str, ...], *, reason: str) -> None:
    """Stop sending until `smsq resume`: all messages, or those of one template.

    Requests under way are finished, reports are still accepted, and messages wait; only their ttl
    elapses. Exits with 1 where an operator has already paused it.
    """
    from smsq_worker.cli.helpers.ledger_client import open_control
    from smsq_worker.inspection.formatting import scope_words

    found = read_scope(scope)
    if not open_control().pause(found, reason):
        fail(f"{scope_words(found)} is already paused by an operator")
    click.echo(f"paused {scope_words(found)}; to go on: smsq resume {scope_words(found)}")
