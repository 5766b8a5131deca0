"""How commands read an operator's words, and write the rate."""

from __future__ import annotations

from typing import Final

import click

from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger.admin import Rate

MAX_REASON: Final = 200
REASON_RULE: Final = f"printable text of at most {MAX_REASON} characters, on one line"


def is_reason(text: str) -> bool:
    """Tell whether a text can stand in logs and lists."""
    return len(text) <= MAX_REASON and text.isprintable()


def check_reason(_: click.Context, __: click.Parameter, value: str) -> str:
    """Check a --reason."""
    if not is_reason(value):
        raise click.BadParameter(f"it takes {REASON_RULE}")
    return value


def rate_now(rate: Rate) -> str:
    """Say how many calls a second there are now, and why not as many as there may be."""
    if rate.back_at is None:
        return f"{rate.now:g}/s"
    return (
        f"{rate.now:g}/s: the gateway wanted fewer; "
        f"back at {rate.limit:g}/s by {moment(rate.back_at)} if it is content"
    )
