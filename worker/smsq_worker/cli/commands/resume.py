"""`smsq resume`: resume sending, whatever the pause's cause."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from smsq_worker.cli.helpers.accounts import account_option
from smsq_worker.cli.helpers.asking import ask_if_many_wait, yes_option
from smsq_worker.cli.helpers.options import command
from smsq_worker.cli.helpers.output import echo, fail
from smsq_worker.cli.helpers.scope import RESUMABLE, read_scopes, scope_argument


@command(
    "smsq resume",
    "smsq resume account backup",
    "smsq resume breaker",
    "smsq resume template SMS_1001",
)
@scope_argument(RESUMABLE)
@account_option
@yes_option
def resume(scope: tuple[str, ...], *, account: str | None, yes: bool) -> None:
    """Resume sending after a pause, whatever its cause.

    Resuming the account also ends a pause for an outage of the gateway, the breaker's; it can be
    resumed alone. If the cause persists, sending is paused again. Of several accounts one is
    resumed; a template at all of them, or at that of --account. Exits with 1 where nothing was
    paused.
    """
    import os

    from smsq import audit
    from smsq_worker.cli.helpers.accounts import accounts_of, open_known
    from smsq_worker.config.settings import Settings
    from smsq_worker.domain.scopes import read_scope, spoken
    from smsq_worker.i18n import _
    from smsq_worker.inspection.formatting import pause_words, scope_name

    settings = Settings.load(os.environ)
    named = settings.rules.accounts
    asked = read_scopes(scope, RESUMABLE, accounts_of(settings), account)
    control = open_known(settings)
    before = {one.scope: one for one in control.pauses()}
    wanted = [each for one in asked for each in _scopes(one, before)]
    if met := [one for one in wanted if one in before]:
        names = ", ".join(scope_name(spoken(one, named)) for one in met)
        ask_if_many_wait(control, _("this resumes {scope}", scope=names), yes=yes)
    done = [
        one
        for one in wanted
        if one in before and control.resume(one, "an operator", audit.act("resume", scope=one))
    ]
    for one in done:
        why = pause_words(before.pop(one))
        echo(_("resumed {scope} ({why})", scope=scope_name(spoken(one, named)), why=why))
    if not done:
        shown = [spoken(one, named) for one in before]
        name, others = scope_name(spoken(asked[0], named)), _(", ").join(map(scope_name, shown))
        if len(asked) > 1:
            name = scope_name(f"template:{read_scope(asked[0]).template}")
        if others:
            fail(_("{scope} was not paused; paused now: {others}", scope=name, others=others))
        fail(_("{scope} was not paused", scope=name))


def _scopes(asked: str, paused: Collection[str]) -> Iterator[str]:
    """Yield what a scope means: of an account, its breaker too."""
    from smsq_worker.domain.printable import escaped
    from smsq_worker.domain.scopes import read_scope
    from smsq_worker.ledger.admin import ACCOUNT, BREAKER

    if asked not in paused:  # A name of an older release is shown with escapes.
        asked = next((real for real in paused if escaped(real) == asked), asked)
    yield asked
    scope = read_scope(asked)
    if scope.kind == ACCOUNT:
        yield str(scope._replace(kind=BREAKER))
