"""How the rate is printed."""

from __future__ import annotations

from typing import Any

from smsq_worker.inspection.formatting import moment
from smsq_worker.ledger.admin import Rate


def as_dict(rate: Rate) -> dict[str, Any]:
    """Return the rate as JSON shows it."""
    return {
        "limit": rate.limit,
        "burst": rate.burst,
        "set_by": "operator" if rate.by_operator else "settings",
        "now": rate.now,
        "back_at": None if rate.back_at is None else moment(rate.back_at),
    }


def current(rate: Rate) -> str:
    """Return the rate at present, and why it is lower than the limit."""
    if rate.back_at is None:
        return f"{rate.now:g}/s"
    return (
        f"{rate.now:g}/s: the gateway wanted fewer; "
        f"back at {rate.limit:g}/s by {moment(rate.back_at)} if it is content"
    )


def source(rate: Rate) -> str:
    """Return who set the limit."""
    if rate.by_operator:
        return "set by an operator; smsq rate --reset goes back to the settings"
    return "the workers' settings SMSQ_RATE_PER_S, SMSQ_RATE_BURST"
