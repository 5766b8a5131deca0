"""`smsq pause`: stop sending, for all workers."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.accounts import account_option
from smsq_worker.cli.helpers.asking import ask_if_many_wait, yes_option
from smsq_worker.cli.helpers.options import check_reason, command
from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.cli.helpers.scope import PAUSABLE, read_scopes, scope_argument


@command(
    "smsq pause",
    "smsq pause account --reason 'topping up'",
    "smsq pause account backup",
    "smsq pause template SMS_1001 --reason 'wrong text'",
)
@scope_argument(PAUSABLE)
@account_option
@click.option("--reason", default="", callback=check_reason, help="Shown by status and in logs.")
@yes_option
def pause(scope: tuple[str, ...], *, account: str | None, reason: str, yes: bool) -> None:
    """Stop sending until `smsq resume`: all messages, or those of one template.

    Requests under way are finished, reports are still accepted, and messages wait; only their ttl
    elapses. Of several accounts one is paused, and messages go over the others of their route; a
    template is paused at all of them, or at that of --account. Exits with 1 where an operator has
    already paused it.
    """
    import os

    from smsq import audit
    from smsq_worker.cli.helpers.accounts import accounts_of, open_known
    from smsq_worker.config.settings import Settings
    from smsq_worker.domain.scopes import spoken
    from smsq_worker.i18n import _
    from smsq_worker.inspection.formatting import scope_name, scope_words

    settings = Settings.load(os.environ)
    found = read_scopes(scope, PAUSABLE, accounts_of(settings), account)
    control, before = open_known(settings), []
    names = ", ".join(scope_name(spoken(one, settings.rules.accounts)) for one in found)
    ask_if_many_wait(control, _("this pauses {scope}", scope=names), yes=yes)
    for one in found:
        shown = spoken(one, settings.rules.accounts)
        if not control.pause(one, reason, audit.act("pause", scope=one, reason=reason)):
            before.append(_("{scope} is already paused by an operator", scope=scope_name(shown)))
            continue
        name, typed = scope_name(shown), scope_words(shown)
        echo(_("paused {scope}; to go on: smsq resume {typed}", scope=name, typed=typed))
    if before:
        fail("\n".join(before))
