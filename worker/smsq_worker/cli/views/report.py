"""What became of the messages of some days, as `smsq report` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final, Literal

import click

from smsq_worker.cli.helpers.layout import table
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo_csv, echo_json, echo_lines
from smsq_worker.domain.spoken_times import read_day
from smsq_worker.i18n import N_, _, pgettext
from smsq_worker.inspection.formatting import clean, local, span, state_name
from smsq_worker.ledger.days import Report, Sums, read_days, today

Form = Literal["csv", "json", False]

_STATES: Final = ("delivered", "failed", "unreported", "expired", "cancelled")
_COLUMNS: Final = ("sent", "delivered", "failed", "in_doubt", "unreported", "expired", "cancelled")
_HEADS: Final = {
    "day": N_("day"),
    "template": N_("template"),
    "lane": N_("lane"),
    "stat": N_("stat"),
    "in_doubt": N_("in doubt"),
}


def show(day: str, days: int, by: Sequence[str], *, form: Form) -> None:
    """Print the sums of days, of which `day` is the last."""
    settings, client = open_ledger()
    with client:
        last = _read(day, today(client, settings.redis_url))
        # None is before the first of January of the year 1.
        all_days = [last - timedelta(days=n) for n in range(min(days, last.toordinal()))]
        found = read_days(client, settings.redis_url, all_days, by)
    if form == "json":
        heads = ("day", *by)
        named = [
            dict(zip(heads, group, strict=True)) | sums.as_dict() for group, sums in _sorted(found)
        ]
        echo_json({"since": found.since, "rows": named, "total": found.total.as_dict()})
    elif form == "csv":
        rows = ((*group, *sums.as_dict().values()) for group, sums in _sorted(found))
        echo_csv(["day", *by, *Sums().as_dict()], rows)
    else:
        echo_lines(_lines(found, by, all_days))


def _read(day: str, now: date) -> date:
    try:
        return read_day(day, now)
    except ValueError:
        raise click.BadParameter(
            _("{text}: it takes today, yesterday or 2025-07-06", text=repr(day)[:40]),
            param_hint="--day",
        ) from None


def _sorted(found: Report) -> list[tuple[tuple[str, ...], Sums]]:
    """Return the groups, the newest day first, in it the largest."""

    def place(one: tuple[tuple[str, ...], Sums]) -> tuple[str, int]:
        (day, *_others), sums = one
        return day, max(sums.sent, sums.delivered + sums.failed + sums.expired)

    return sorted(sorted(found.groups.items()), key=place, reverse=True)


def _lines(found: Report, by: Sequence[str], days: Sequence[date]) -> Iterator[str]:
    rows = [[*map(_head, ("day", *by, *_COLUMNS)), _("rate"), _("median")]]
    for group, sums in _sorted(found):
        rows.append([*(clean(value) or "-" for value in group), *_figures(sums)])
    if len(found.groups) != 1:
        rows.append([_("in all"), *("" for _name in by), *_figures(found.total)])
    yield from table(rows, left=1 + len(by))
    yield _note(found, days)


def _head(name: str) -> str:
    if name == "sent":
        return pgettext("heading", "sent")
    return state_name(name) if name in _STATES else _(_HEADS[name])


def _figures(sums: Sums) -> list[str]:
    rate, median = sums.delivery_rate, sums.median_s
    return [
        *(str(getattr(sums, name)) for name in _COLUMNS),
        "-" if rate is None else f"{rate:.1%}",
        "-" if median is None else span(median),
    ]


def _note(found: Report, days: Sequence[date]) -> str:
    if found.since is None:
        return _("nothing is counted of {day}", day=days[0].isoformat())
    return _(
        "by when they were enqueued, in Asia/Shanghai; counted since {time}",
        time=local(found.since),
    )
