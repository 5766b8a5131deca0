"""`smsq resume`: resume sending, whatever the pause's cause."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.asking import ask_if_many_wait, yes_option
from smsq_worker.cli.helpers.options import examples
from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.cli.helpers.scope import RESUMABLE, read_scope, scope_argument


@click.command(
    epilog=examples("smsq resume", "smsq resume breaker", "smsq resume template SMS_1001")
)
@scope_argument(RESUMABLE)
@yes_option
def resume(scope: tuple[str, ...], *, yes: bool) -> None:
    """Resume sending after a pause, whatever its cause.

    Resuming the account also ends a pause for an outage of the gateway, the breaker's; it can be
    resumed alone. If the cause persists, sending is paused again. Exits with 1 where nothing was
    paused.
    """
    from smsq import audit
    from smsq_worker.cli.helpers.ledger_client import open_control
    from smsq_worker.domain.printable import escaped
    from smsq_worker.i18n import _
    from smsq_worker.inspection.formatting import pause_words, scope_name, scope_words
    from smsq_worker.ledger.admin import ACCOUNT, BREAKER

    asked = read_scope(scope, RESUMABLE)
    control = open_control()
    before = {one.scope: one for one in control.pauses()}
    if asked not in before:  # A name of an older release is shown with escapes.
        asked = next((one for one in before if escaped(one) == asked), asked)
    if asked in before or (asked == ACCOUNT and BREAKER in before):
        ask_if_many_wait(control, _("this resumes {scope}", scope=scope_name(asked)), yes=yes)
    wanted = (ACCOUNT, BREAKER) if asked == ACCOUNT else (asked,)
    done = [
        one
        for one in wanted
        if one in before and control.resume(one, "an operator", audit.act("resume", scope=one))
    ]
    for one in done:
        why = pause_words(before.pop(one))
        echo(_("resumed {scope} ({why})", scope=scope_name(one), why=why))
    if not done:
        name, others = scope_name(asked), ", ".join(map(scope_words, before))
        if others:
            fail(_("{scope} was not paused; paused now: {others}", scope=name, others=others))
        fail(_("{scope} was not paused", scope=name))
