"""How the rate is printed."""

from __future__ import annotations

from typing import Any

from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import local, moment
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


def limit(rate: Rate) -> str:
    """Return the limit, with the burst."""
    return _("{limit:g}/s, burst {burst}", limit=rate.limit, burst=rate.burst)


def current(rate: Rate) -> str:
    """Return the rate at present, and why it is lower than the limit."""
    if rate.back_at is None:
        return _("{now:g}/s", now=rate.now)
    return _(
        "{now:g}/s: the gateway wanted fewer; back at {limit:g}/s by {time} if it is content",
        now=rate.now,
        limit=rate.limit,
        time=local(rate.back_at),
    )


def source(rate: Rate) -> str:
    """Return who set the limit."""
    if rate.by_operator:
        return _("set by an operator; smsq rate --reset goes back to the settings")
    return _("the workers' settings SMSQ_RATE_PER_S, SMSQ_RATE_BURST")
