"""A message's past and future, as `smsq explain` prints them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import click

from smsq.cipher import opener
from smsq.connection import Client
from smsq.contract import mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq.tracking import Status, read_status
from smsq_worker.cli.helpers import selecting
from smsq_worker.cli.helpers.layout import padded, terminal_columns, width, wrapped
from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo_json, echo_lines, fail
from smsq_worker.cli.views import ticket
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.codes import Catalogues, Code
from smsq_worker.i18n import _, pgettext
from smsq_worker.i18n.told import told
from smsq_worker.inspection.code_text import class_words, meaning
from smsq_worker.inspection.events import Event, Past
from smsq_worker.inspection.forecast import ForecastContext, next_events
from smsq_worker.inspection.formatting import (
    clean,
    instant,
    local,
    local_instant,
    moment,
    span,
    state_name,
)
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.inspection.state_text import state_words
from smsq_worker.inspection.timeline import past_events
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.message_view import (
    Trace,
    mid_of,
    number_of,
    parked_of,
    read_trace,
)
from smsq_worker.ledger.selecting import Selection, Selector
from smsq_worker.vendors.of_accounts import catalogues_of, vendors_of

_NUMBER: Final = re.compile(r"\+?[0-9 ()-]+")
_LABEL: Final = 9
_TIME: Final = len(local_instant(datetime.fromtimestamp(0).astimezone())) + 2
_WIDE: Final = 80
"""Where a terminal has fewer columns, a time stands above what happened."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    last: int
    as_json: bool
    ticket: bool
    show_number: bool


@dataclass(frozen=True, slots=True)
class _Context:
    """What every answer needs."""

    settings: Settings
    client: Client
    catalogues: Catalogues
    wish: Wish

    @property
    def time(self) -> Callable[[datetime], str]:
        """Return what writes a time for whoever reads the answer."""
        return instant if self.wish.as_json else local_instant


def show_explanation(word: str, wish: Wish) -> None:
    """Print what is known of a message's id, of a mid, a number, a campaign, a key, a reference."""
    settings = Settings.load(os.environ)
    catalogues = Catalogues(catalogues_of(settings, vendors_of(settings)))
    with connect_ledger(settings) as client:
        context = _Context(settings, client, catalogues, wish)
        if _explain_id(context, word) or _explain_mid(context, word):
            return
        selector = selecting.selector(client, settings)
        if phone := _phone(word):
            _explain_phone(context, phone)
        elif not _explain_named(context, selector, word):
            if _NUMBER.fullmatch(word):
                _refuse_number(word)
            words = _("nothing is known of {word!r}", word=word)
            _unknown(context, _("; ").join([words, *_unindexed(context, selector)]))


def _phone(word: str) -> str:
    """Return the number that a word is; "" of any other."""
    try:
        return parse_phone(word) if _NUMBER.fullmatch(word) else ""
    except InvalidMessage:
        return ""


def _refuse_number(word: str) -> NoReturn:
    try:
        parse_phone(word)
    except InvalidMessage as error:
        raise click.UsageError(
            _("no id and no mid that is known, and no number: {error}", error=told(str(error)))
        ) from None
    raise AssertionError(word)


def _explain_id(context: _Context, message_id: str, mid: str = "") -> bool:
    trace = read_trace(context.client, context.settings.redis_url, message_id)
    if trace is not None and context.wish.ticket:
        _show_ticket(context, trace)
    elif trace is not None:
        answer = _explanation(context, trace)
        if mid:
            answer = {"mid": mid} | answer
        _echo(context, answer, _lines(answer))
    return trace is not None


def _explain_mid(context: _Context, mid: str) -> bool:
    url = context.settings.redis_url
    if found := mid_of(context.client, url, mid):
        n, message_id = found
        if not _explain_id(context, message_id, mid):
            _unknown(
                context,
                _(
                    "{mid} was assigned to attempt {n} of {id}, which is forgotten",
                    mid=mid,
                    n=n,
                    id=message_id,
                ),
            )
        return True
    parked = parked_of(context.client, url, mid)
    if parked is None:
        return False
    account, since, sharers = parked
    stats = Ledger(context.client, context.settings.rules).parked_stats(qualified(mid, account))
    codes = [*map(context.catalogues.of(account).classify, stats)]
    if context.wish.ticket:
        echo_lines(ticket.of_a_mid(mid, codes))
        return True
    answer = _parked(context, mid, codes, since, sharers)
    _echo(context, answer, _lines(answer))
    return True


def _explain_named(context: _Context, selector: Selector, word: str) -> bool:
    """Explain the messages of a campaign, the holders of a key, or those with a reference.

    In this order: the first two are looked up, for a reference the index is searched.
    """
    client, settings = context.client, context.settings
    campaign = Campaigns(client, settings.rules).read(word)
    if campaign is not None:
        ids = _ids(selector, "campaign", word, context.wish.last)
        note = _(
            "campaign {name}: the newest {n} of {count} messages; all of it: smsq campaign show",
            name=clean(word),
            n=len(ids),
            count=campaign.total,
        )
        return _explain_several(context, {"campaign": word, "found": campaign.total}, ids, note)
    holders = selector.holders(word)
    if holders:
        note = _("it holds the idempotency key {key}", key=clean(word))
        return _explain_several(context, {"key": word, "found": len(holders)}, holders, note)
    ids = _ids(selector, "reference", word, context.wish.last)
    read = (read_status(client, settings.redis_url, one) for one in ids)
    # A * in a selection is any text.
    ids = [one.id for one in read if one is not None and one.reference == word]
    note = _(
        "reference {name}: the newest {n} messages; all: smsq list --reference",
        name=clean(word),
        n=len(ids),
    )
    note = _("; ").join([note, *_unindexed(context, selector)])
    return _explain_several(context, {"reference": word, "found": len(ids)}, ids, note)


def _unindexed(context: _Context, selector: Selector) -> Iterator[str]:
    """Yield that a reference was looked up where not every message is, if that is known."""
    if not (context.settings.index and selector.has_index()):
        yield _(
            "a reference is looked up in the index, which messages sent with SMSQ_INDEX=0 are not "
            "in; to look through all: smsq list --scan --reference"
        )


def _ids(selector: Selector, field: str, word: str, last: int) -> list[str]:
    """Return the newest messages of which a field is a word."""
    return [one for one, _at in selector.page(Selection({field: [word]}), last).rows]


def _explain_several(
    context: _Context, what: dict[str, Any], ids: Iterable[str], note: str
) -> bool:
    """Print messages as a list, or the only one in full; return whether there is one."""
    client, url = context.client, context.settings.redis_url
    found = [status for one in ids if (status := read_status(client, url, one)) is not None]
    if len(found) == 1 and what["found"] == 1:
        return _explain_id(context, found[0].id)
    found.sort(key=lambda one: one.enqueued_at, reverse=True)
    if found:
        rows = [_row(context, status) for status in found]
        _echo_several(context, what | {"note": note, "messages": rows})
    return bool(found)


def _echo_several(context: _Context, answer: dict[str, Any]) -> None:
    lines = [*_table(answer["messages"]), *wrapped(answer["note"], terminal_columns())]
    _echo(context, answer, [*lines, _("one of them: smsq explain ID")])


def _explain_phone(context: _Context, phone: str) -> None:
    settings, client = context.settings, context.client
    selector = selecting.selector(client, settings)
    masked, total = mask_phone(phone), selector.size()
    with meter(_("searching"), total, quiet=not sys.stderr.isatty()) as step:
        found = selector.page(
            Selection(phone=phone),
            sys.maxsize - 1,
            scan=True,
            on_slice=lambda looked, n: step(min(looked, total), _("{n} found", n=n)),
        ).rows
    newest = [one for one, _at in found[: context.wish.last]]
    statuses = (read_status(client, settings.redis_url, one) for one in newest)
    rows = [_row(context, status) for status in statuses if status is not None]
    if not rows:
        _unknown(context, _("no message to {phone} is known", phone=masked))
    note = _(
        "{phone}: the newest {n} of {count} messages; of those that have ended the middle digits "
        "are not kept, so another number's may be among them",
        phone=masked,
        n=len(rows),
        count=len(found),
    )
    answer: dict[str, Any] = {"phone": masked, "found": len(found), "note": note, "messages": rows}
    if len(rows) > 1:
        _echo_several(context, answer)
        return
    trace = read_trace(client, settings.redis_url, rows[0]["id"])
    if trace is None:
        _unknown(context, _("the message to {phone} has just been forgotten", phone=masked))
    if context.wish.ticket:
        _show_ticket(context, trace)
        return
    answer["story"] = _explanation(context, trace)
    _echo(context, answer, [*_lines(answer["story"]), "", *wrapped(note, terminal_columns())])


def _explanation(context: _Context, trace: Trace) -> dict[str, Any]:
    """Return a message's past and future as JSON shows them."""
    settings = context.settings
    inspector = Inspector(context.client, settings.rules, settings.broker_url)
    rules = settings.rules
    told = Past(
        trace,
        context.catalogues,
        bool(settings.webhook_url),
        settings.notify_queue,
        rules.accounts,
        rules.routes,
        inspector.control.pauses() if rules.accounts else (),
    )
    forecast = ForecastContext(trace, inspector, settings.bulk_hours)
    following = [_event(context, event) for event in next_events(forecast)]
    inspector.close()
    status = trace.status
    return {
        "id": status.id,
        "at": instant(trace.at),
        "phone": status.phone,
        "template": status.template,
        "lane": status.lane,
        "campaign": status.campaign,
        "state": status.state,
        "reason": status.reason,
        "redo_of": status.redo_of,
        "redone_by": trace.redone_by,
        "words": state_words(status, context.catalogues),
        "events": [_event(context, event) for event in past_events(told)],
        "next": following,
    }


def _parked(
    context: _Context,
    mid: str,
    codes: Sequence[Code],
    since: datetime | None,
    sharers: Sequence[str],
) -> dict[str, Any]:
    events = [
        Event(
            since if n == 0 else None,
            "report",
            _("report {stat}: {meaning}", stat=code.stat, meaning=meaning(code))
            + f"\n  {class_words(code.code_class)}",
        )
        for n, code in enumerate(codes)
    ]
    lost = _(
        "No message is known to have this mid: the response with it was lost or is still in a "
        "worker's spool, the message is forgotten, or somebody else sends over the same account."
    )
    reused = _(
        "The gateway assigned this mid to more than one message: {ids} were the first. It is "
        "unknown which of them a report is about, so it settles neither.",
        ids=clean(_(" and ").join(sharers)),
    )
    following = []
    if since is not None:
        words = _("until then it waits for the response with its mid")
        if sharers:
            words = _("until then it is kept")
        kept = since + timedelta(seconds=context.settings.report_wait_s)
        following.append(Event(kept, "forgotten", words))
    return {
        "mid": mid,
        "state": "reused" if sharers else "parked",
        "words": reused if sharers else lost,
        "messages": list(sharers),
        "events": [_event(context, event) for event in events],
        "next": [_event(context, event) for event in following],
    }


def _event(context: _Context, event: Event) -> dict[str, Any]:
    return asdict(event) | {"at": event.at and context.time(event.at)}


def _show_ticket(context: _Context, trace: Trace) -> None:
    settings, number = context.settings, ""
    if context.wish.show_number:
        cipher = opener(context.client, settings, strict=True)()
        number = number_of(context.client, settings.redis_url, trace.status.id, cipher)
    lines = ticket.of_a_message(trace.status, number, context.catalogues)
    if lines is None:
        fail(
            _(
                "smsq: the gateway took no call of {id}, so there is nothing to ask the vendor",
                id=trace.status.id,
            )
        )
    echo_lines(lines)


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    """Return the lines of an explanation."""
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
    words = _("{state}: {meaning}", state=_state(answer["state"]), meaning=answer["words"])
    yield from _hanging(_labelled(_("state"), ""), words, columns)
    yield ""
    yield from _event_lines(answer["events"], columns)
    if answer["next"]:
        yield ""
        yield _("Next")
        yield from _event_lines(answer["next"], columns)


def _state(state: str) -> str:
    """Return what a message or a mid is called."""
    of_mids = {"parked": pgettext("state", "parked"), "reused": pgettext("state", "reused")}
    return of_mids.get(state) or state_name(state)


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


def _row(context: _Context, status: Status) -> dict[str, Any]:
    time = moment if context.wish.as_json else local
    return {
        "id": status.id,
        "enqueued_at": time(status.enqueued_at),
        "state": status.state,
        "reason": status.reason,
    }


def _table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    columns = terminal_columns()
    for row in rows:
        state = padded(state_name(row["state"]), 10)
        rest = "  ".join((row["enqueued_at"], state, clean(row["reason"] or ""))).rstrip()
        if not 0 < columns < _WIDE:
            yield f"{row['id']}  {rest}"
        else:
            yield from (row["id"], f"  {rest}")


def _echo(context: _Context, answer: dict[str, Any], lines: Iterable[str]) -> None:
    if context.wish.as_json:
        echo_json(answer)
    else:
        echo_lines(lines)


def _unknown(context: _Context, what: str) -> NoReturn:
    kept = span(context.settings.retention_s)
    fail(
        _(
            "smsq: {what}. It may have been forgotten (a message is kept for {span} after its end, "
            "SMSQ_RETENTION_S), never enqueued (delay() raised), or be in another Redis than that "
            "of SMSQ_REDIS_URL",
            what=clean(what),
            span=kept,
        )
    )
