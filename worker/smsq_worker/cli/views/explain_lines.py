"""The lines of what `smsq explain` has found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from smsq_worker.cli.helpers.layout import padded, terminal_columns, width, wrapped
from smsq_worker.i18n import _
from smsq_worker.inspection.formatting import clean, local_instant, state_name

_LABEL: Final = 9
_TIME: Final = len(local_instant(datetime.fromtimestamp(0).astimezone())) + 2
_WIDE: Final = 80
"""Where a terminal has fewer columns, a time stands above what happened."""


def explanation_lines(answer: dict[str, Any]) -> Iterator[str]:
    """Return the lines of one message or mid, as JSON shows it."""
    columns = terminal_columns()
    if "id" in answer:
        yield _labelled(_("message"), answer["id"])
        to = _(
            "{phone}, template {template}",
            phone=answer["phone"] or "?",
            template=clean(answer["template"] or "?"),
        )
        yield _labelled(_("to"), to)
        if answer["campaign"]:
            yield _labelled(_("campaign"), clean(answer["campaign"]))
        if answer["redo_of"]:
            yield _labelled(_("again"), _("sends {id} again", id=answer["redo_of"]))
        if answer["redone_by"]:
            yield _labelled(_("again"), _("sent again as {id}", id=answer["redone_by"]))
    if "mid" in answer:
        yield _labelled("mid", answer["mid"])
    words = _("{state}: {meaning}", state=state_name(answer["state"]), meaning=answer["words"])
    yield from _hanging(_labelled(_("state"), ""), words, columns)
    yield ""
    yield from _event_lines(answer["events"], columns)
    if answer["next"]:
        yield ""
        yield _("Next")
        yield from _event_lines(answer["next"], columns)


def _labelled(label: str, text: str) -> str:
    return padded(label, _LABEL) + text


def _hanging(before: str, text: str, columns: int) -> Iterator[str]:
    """Yield the lines of a text, behind what is before its first."""
    indent = width(before)
    for n, line in enumerate(wrapped(text, columns and columns - indent)):
        yield (" " * indent if n else before) + line


def _event_lines(events: Iterable[dict[str, Any]], columns: int) -> Iterator[str]:
    for event in events:
        if not 0 < columns < _WIDE:
            yield from _hanging(padded(event["at"] or "", _TIME), event["text"], columns)
        else:
            yield from filter(None, [event["at"]])
            yield from _hanging("  ", event["text"], columns)


def table_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Return the lines of a list of messages."""
    columns = terminal_columns()
    for row in rows:
        state = padded(state_name(row["state"]), 10)
        rest = "  ".join((row["enqueued_at"], state, clean(row["reason"] or ""))).rstrip()
        if not 0 < columns < _WIDE:
            yield f"{row['id']}  {rest}"
        else:
            yield from (row["id"], f"  {rest}")
