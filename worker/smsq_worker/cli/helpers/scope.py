"""What `smsq pause` and `smsq resume` are about."""

from __future__ import annotations

import click

from smsq.contract import parse_template
from smsq.suggestions import did_you_mean
from smsq_worker.cli.helpers.offer import offer
from smsq_worker.ledger.admin import ACCOUNT, template_scope

SCOPES = offer(ACCOUNT, "template")

_ALLOWED = "it is about account (the default) or template NAME"
_NAMED = 2


def read_scope(words: tuple[str, ...]) -> str:
    """Read a scope; the account where there are no words. Raises UsageError, InvalidMessage."""
    if words in {(), (ACCOUNT,)}:
        return ACCOUNT
    if words[0] != "template":
        # Not shown: it may be a number in the wrong place.
        hint = did_you_mean(words[0], (ACCOUNT, "template"))
        raise click.UsageError(f"{_ALLOWED}; {hint}" if hint else _ALLOWED)
    if len(words) != _NAMED:
        raise click.UsageError(f"{_ALLOWED}; a template has one NAME")
    return template_scope(parse_template(words[1]))
