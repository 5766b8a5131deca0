"""`smsq resume`: resume sending, whatever the pause's cause."""

from __future__ import annotations

import click

from smsq_worker.cli.helpers.options import examples
from smsq_worker.cli.helpers.output import fail
from smsq_worker.cli.helpers.scope import read_scope, scope_argument


@click.command(epilog=examples("smsq resume", "smsq resume template SMS_1001"))
@scope_argument
def resume(scope: tuple[str, ...]) -> None:
    """Resume sending after a pause, whatever its cause.

    Resuming the account also ends a pause for an outage of the gateway. If the cause persists,
    sending is paused again. Exits with 1 where nothing was paused.
    """
    from smsq_worker.cli.helpers.ledger_client import open_control
    from smsq_worker.inspection.formatting import pause_words, scope_words
    from smsq_worker.ledger.admin import ACCOUNT, BREAKER

    asked = read_scope(scope)
    control = open_control()
    before = {one.scope: one for one in control.pauses()}
    wanted = (ACCOUNT, BREAKER) if asked == ACCOUNT else (asked,)
    done = [one for one in wanted if one in before and control.resume(one, "an operator")]
    for one in done:
        click.echo(f"resumed {scope_words(one)} ({pause_words(before.pop(one))})")
    if not done:
        others = ", ".join(map(scope_words, before))
        fail(f"{scope_words(asked)} was not paused" + f"; paused now: {others}" * bool(others))
