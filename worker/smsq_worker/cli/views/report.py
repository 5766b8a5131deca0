"""What became of the messages of some days, as `smsq report` prints it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final, Literal

import click

from smsq_worker.bulk_import import formulas
from smsq_worker.cli.helpers.layout import padded, width
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo_json, echo_lines
from smsq_worker.domain.printable import escaped
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
        all_days = [last - timedelta(days=n) for n in range(days)]
        found = read_days(client, settings.redis_url, all_days, by)
    if form == "json":
        rows = [_named(group, by) | sums.as_dict() for group, sums in _sorted(found)]
        echo_json({"since": found.since, "rows": rows, "total": found.total.as_dict()})
    elif form == "csv":
        _write_csv(found, by)
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


def _named(group: Sequence[str], by: Sequence[str]) -> dict[str, Any]:
    return dict(zip(("day", *by), group, strict=True))


def _write_csv(found: Report, by: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["day", *by, *Sums().as_dict()])
    for group, sums in _sorted(found):
        values = ("" if value is None else str(value) for value in sums.as_dict().values())
        writer.writerow(formulas.written([*map(escaped, group), *values]))


def _lines(found: Report, by: Sequence[str], days: Sequence[date]) -> Iterator[str]:
    rows = _sorted(found)
    table = [
        [_head(name) for name in ("day", *by)],
        *([clean(value) or "-" for value in group] for group, _sums in rows),
    ]
    if len(rows) != 1:
        table.append([_("in all"), *("" for _name in by)])
        rows.append(((), found.total))
    heads = [*map(_head, _COLUMNS), _("rate"), _("median")]
    figures = [heads, *(_figures(sums) for _group, sums in rows)]
    lefts, rights = (
        [max(map(width, one)) for one in zip(*t, strict=True)] for t in (table, figures)
    )
    for names, cells in zip(table, figures, strict=True):
        right = (
            " " * (most - width(cell)) + cell for cell, most in zip(cells, rights, strict=True)
        )
        yield "  ".join((*map(padded, names, lefts), *right)).rstrip()
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
