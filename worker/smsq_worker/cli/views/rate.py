"""How the rate is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from smsq_worker.cli.helpers.layout import padded, width
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


def lines(rate: Rate, account: str = "") -> Iterator[str]:
    """Yield the limit and who set it, the rate at present, and whether workers' settings differ."""
    text = _("{name}: {meaning}", name=limit(rate), meaning=source(rate, account))
    rows = [(_("limit"), text), (_("now"), current(rate))]
    if rate.of_workers:
        rows.append((_("differ"), differing(rate)))
    for name, words in rows:
        yield f"{padded(name, 6)} {words}"


def by_account(rates: Mapping[str, Rate]) -> Iterator[str]:
    """Yield the same for each of several accounts."""
    column = max(map(width, rates))
    for account, rate in rates.items():
        for line in lines(rate, account):
            yield f"{padded(account, column)}  {line}"


def limit(rate: Rate) -> str:
    """Return the limit, with the burst."""
    return _("{limit:g}/s, burst {burst}", limit=rate.limit, burst=rate.burst)


def differing(rate: Rate) -> str:
    """Return the two limits that workers' settings say."""
    one, other = (
        _("{limit:g}/s, burst {burst}", limit=limit, burst=burst)
        for limit, burst in rate.of_workers
    )
    return _("workers go by two limits: {one}, and {other}", one=one, other=other)


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


def source(rate: Rate, account: str = "") -> str:
    """Return who set the limit; of one of several accounts, its name."""
    if rate.by_operator and account:
        return _(
            "set by an operator; smsq rate --account {name} --reset goes back to the file",
            name=account,
        )
    if rate.by_operator:
        return _("set by an operator; smsq rate --reset goes back to the settings")
    if account:
        return _("the workers' SMSQ_ACCOUNTS_FILE, rate_per_s and burst")
    return _("the workers' settings SMSQ_RATE_PER_S, SMSQ_RATE_BURST")
