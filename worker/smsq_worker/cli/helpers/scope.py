"""What `smsq pause` and `smsq resume` apply to."""

from __future__ import annotations

from typing import Final

import click

from smsq_worker.cli.helpers.options import suggest

scope_argument: Final = click.argument(
    "scope",
    nargs=-1,
    metavar="[account | template NAME]",
    shell_complete=suggest("account", "template"),
)

_ALLOWED: Final = "it is about account (the default) or template NAME"


def read_scope(words: tuple[str, ...]) -> str:
    """Read a scope; without words, the account. Raises UsageError, InvalidMessage."""
    from smsq.contract import parse_template
    from smsq_worker.ledger.admin import ACCOUNT, template_scope

    match words:
        case () | ("account",):
            return ACCOUNT
        case ("template", name):
            return template_scope(parse_template(name))
        case ("template", *_):
            raise click.UsageError(f"{_ALLOWED}; a template has one NAME")
    # Not shown: it may be a number in the wrong place.
    from smsq.suggestions import did_you_mean

    hint = did_you_mean(words[0], ("account", "template"))
    raise click.UsageError(f"{_ALLOWED}; {hint}" if hint else _ALLOWED)
