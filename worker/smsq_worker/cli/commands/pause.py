"""`smsq pause`: stop sending, for all workers."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.asking import ask_if_many_wait, yes_option
from smsq_worker.cli.helpers.options import check_reason, examples
from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.cli.helpers.scope import PAUSABLE, read_scope, scope_argument


@click.command(
    epilog=examples(
        "smsq pause",
        "smsq pause account --reason 'topping up'",
        "smsq pause template SMS_1001 --reason 'wrong text'",
    )
)
@scope_argument(PAUSABLE)
@click.option("--reason", default="", callback=check_reason, help="Shown by status and in logs.")
@yes_option
def pause(scope: tuple[str, ...], *, reason: str, yes: bool) -> None:
    """Stop sending until `smsq resume`: all messages, or those of one template.

    Requests under way are finished, reports are still accepted, and messages wait; only their ttl
    elapses. Exits with 1 where an operator has already paused it.
    """
    from smsq import audit
    from smsq_worker.cli.helpers.ledger_client import open_control
    from smsq_worker.i18n import _
    from smsq_worker.inspection.formatting import scope_name, scope_words

    found = read_scope(scope, PAUSABLE)
    name, typed = scope_name(found), scope_words(found)
    control = open_control()
    ask_if_many_wait(control, _("this pauses {scope}", scope=name), yes=yes)
    if not control.pause(found, reason, audit.act("pause", scope=found, reason=reason)):
        fail(_("{scope} is already paused by an operator", scope=name))
    echo(_("paused {scope}; to go on: smsq resume {typed}", scope=name, typed=typed))
