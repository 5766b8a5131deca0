"""Messages that were chosen, as `smsq list` and `smsq count` print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import click

from smsq.tracking import Status, read_statuses
from smsq_worker.cli.helpers import selecting
from smsq_worker.cli.helpers.layout import padded, table
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo, echo_csv, echo_json, echo_lines
from smsq_worker.domain.accounts import Account
from smsq_worker.domain.scopes import name_of
from smsq_worker.i18n import _, ngettext
from smsq_worker.inspection.formatting import clean, local, moment, state_name
from smsq_worker.ledger.selecting import BadCursor

Form = Literal["csv", "json", False]

COLUMNS: Final = (
    *("id", "enqueued_at", "state", "reason", "stat", "lane", "template", "phone", "reference"),
    *("attempts", "finished_at", "campaign", "redo_of"),
)

ACCOUNT: Final = "account"
"""Of the last attempt; a column where there are several accounts."""


def show_list(asked: Mapping[str, Any], limit: int, after: str, *, scan: bool, form: Form) -> None:
    """Print a page of messages."""
    selection = selecting.read(asked)
    settings, client = open_ledger()
    with client:
        selector = selecting.selector(client, settings)
        try:
            found = selector.page(selection, limit, after, scan=scan)
        except BadCursor:
            raise click.BadParameter(
                _("it takes what a page ended with, of the same kind of search"),
                param_hint="--after",
            ) from None
        ids = (one for one, _enqueued in found.rows)
        read = read_statuses(client, settings.redis_url, ids)
        statuses = (one for one in read if one is not None)  # otherwise it was forgotten meanwhile
        notes = selecting.notes(selection, found.by_mask)
        notes += selecting.missing(client, settings, selection, len(found.rows))
        rows = (_as_dict(one, settings.rules.accounts) for one in statuses)
        if form == "json":
            echo_json({"messages": list(rows), "after": found.after, "notes": notes})
        elif form == "csv":
            columns = (*COLUMNS, ACCOUNT) if settings.rules.accounts else COLUMNS
            echo_csv(columns, (one.values() for one in rows))
            echo_lines(_footer(len(found.rows), found.after, notes), err=True)
        else:
            echo_lines(_table(statuses))
            echo_lines(_footer(len(found.rows), found.after, notes))


def show_counts(asked: Mapping[str, Any], by: Sequence[str], *, scan: bool, as_json: bool) -> None:
    """Print how many messages there are in each group, the largest first."""
    selection = selecting.read(asked)
    settings, client = open_ledger()
    with client:
        counts = selecting.selector(client, settings).count(selection, by, scan=scan)
        total = sum(counts.groups.values())
        notes = selecting.notes(selection, counts.by_mask)
        notes += selecting.missing(client, settings, selection, total)
    groups = sorted(counts.groups.items(), key=lambda one: (-one[1], tuple(map(str, one[0]))))
    if as_json:
        rows = [
            dict(zip(by, map(_plain, values), strict=True)) | {"count": n} for values, n in groups
        ]
        echo_json({"total": total, "groups": rows, "notes": notes})
        return
    echo_lines(table([(f"{n:>9}", *map(_shown, by, values)) for values, n in groups]))
    echo(f"{total:>9}  {_('in all; times in {zone}', zone=selecting.zone())}")
    echo_lines(notes)


def _as_dict(status: Status, accounts: Sequence[Account]) -> dict[str, Any]:
    values = {name: getattr(status, name) for name in COLUMNS}
    values["attempts"] = len(status.attempts)
    if accounts:
        last = status.attempts[-1].account or "" if status.attempts else None
        values[ACCOUNT] = None if last is None else name_of(last, accounts)
    return {name: _plain(value) for name, value in values.items()}


def _table(statuses: Iterable[Status]) -> Iterator[str]:
    for status in statuses:
        state = padded(state_name(status.state), 10)
        why = clean(status.reason or status.stat or "")
        what = f"{status.lane:<6}  {clean(status.template or '?')}  {status.phone or '?'}"
        yield f"{local(status.enqueued_at)}  {state}  {what}  {status.id}  {why}".rstrip()


def _footer(count: int, after: str, notes: Sequence[str]) -> Iterator[str]:
    yield ngettext(
        "{n} message; times in {zone}",
        "{n} messages; times in {zone}",
        count,
        zone=selecting.zone(),
    )
    if after:
        yield _("more: the same with --after {after}", after=after)
    yield from notes


def _plain(value: Any) -> Any:
    return moment(value) if isinstance(value, datetime) else value


def _shown(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:00}" if name == "hour" else f"{value:%Y-%m-%d}"
    if name == "state":
        return state_name(str(value))
    return clean(str(value)) or "-"
