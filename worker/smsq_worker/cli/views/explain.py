"""A message's past and future, as `smsq explain` prints them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

import click

from smsq.cipher import Opener
from smsq.contract import mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq.tracking import read_statuses
from smsq_worker.cli.helpers import selecting
from smsq_worker.cli.helpers.layout import terminal_columns, wrapped
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo_json, echo_lines, fail
from smsq_worker.cli.views import ticket
from smsq_worker.cli.views.explain_answers import Context, explanation, parked_mid, row
from smsq_worker.cli.views.explain_lines import explanation_lines, table_lines
from smsq_worker.domain.accounts import qualified
from smsq_worker.domain.codes import Catalogues
from smsq_worker.i18n import _
from smsq_worker.i18n.told import told
from smsq_worker.inspection.formatting import clean, span
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.message_view import Trace, mid_of, number_of, parked_of, read_trace
from smsq_worker.ledger.selecting import Selection, Selector
from smsq_worker.vendors.of_accounts import catalogues_of

_NUMBER: Final = re.compile(r"\+?[0-9 ()-]+")


def show_explanation(
    word: str, *, last: int, as_json: bool, ticket: bool, show_number: bool
) -> None:
    """Print what is known of a message's id, of a mid, a number, a campaign, a key, a reference."""
    settings, client = open_ledger()
    catalogues = Catalogues(catalogues_of(settings))
    with client:
        context = Context(settings, client, catalogues, last, as_json, ticket, show_number)
        if _explain_id(context, word) or _explain_mid(context, word):
            return
        selector = selecting.selector(client, settings)
        phone, refusal = _phone(word)
        if phone:
            _explain_phone(context, selector, phone)
        elif not _explain_named(context, selector, word):
            if refusal:
                raise click.UsageError(
                    _("no id and no mid that is known, and no number: {error}", error=told(refusal))
                )
            words = _("nothing is known of {word!r}", word=word)
            of_keys = _(
                "an idempotency key is not found any more once its message certainly was not sent, "
                "as it is free then: look for that by its number or reference"
            )
            _unknown(context, _("; ").join([words, of_keys, *_unindexed(context, selector)]))


def _phone(word: str) -> tuple[str, str]:
    """Return the number that a word is, or ""; and why it is none, where it looks like one."""
    try:
        return parse_phone(word) if _NUMBER.fullmatch(word) else "", ""
    except InvalidMessage as error:
        return "", str(error)


def _explain_id(context: Context, message_id: str, mid: str = "") -> bool:
    trace = read_trace(context.client, context.settings.redis_url, message_id)
    if trace is not None and context.ticket:
        _show_ticket(context, trace)
    elif trace is not None:
        answer = explanation(context, trace)
        if mid:
            answer = {"mid": mid} | answer
        _echo(context, answer, explanation_lines(answer))
    return trace is not None


def _explain_mid(context: Context, mid: str) -> bool:
    url = context.settings.redis_url
    if found := mid_of(context.client, url, mid):
        n, message_id = found
        if not _explain_id(context, message_id, mid):
            words = _(
                "{mid} was assigned to attempt {n} of {id}, which is forgotten",
                mid=mid,
                n=n,
                id=message_id,
            )
            _unknown(context, words)
        return True
    parked = parked_of(context.client, url, mid)
    if parked is None:
        return False
    account, since, sharers = parked
    stats = Ledger(context.client, context.settings.rules).parked_stats(qualified(mid, account))
    codes = [*map(context.catalogues.of(account).classify, stats)]
    if context.ticket:
        echo_lines(ticket.of_a_mid(mid, codes))
        return True
    answer = parked_mid(context, mid, codes, since, sharers)
    _echo(context, answer, explanation_lines(answer))
    return True


def _explain_named(context: Context, selector: Selector, word: str) -> bool:
    """Explain the messages of a campaign, the holders of a key, or those with a reference.

    In this order: the first two are looked up, for a reference the index is searched.
    """
    client, settings = context.client, context.settings
    campaign = Campaigns(client, settings.rules).read(word)
    if campaign is not None:
        ids = _ids(selector, "campaign", word, context.last)
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
    ids = _ids(selector, "reference", word, context.last)
    read = read_statuses(client, settings.redis_url, ids)
    # A * in a selection is any text.
    ids = [one.id for one in read if one is not None and one.reference == word]
    note = _(
        "reference {name}: the newest {n} messages; all: smsq list --reference",
        name=clean(word),
        n=len(ids),
    )
    note = _("; ").join([note, *_unindexed(context, selector)])
    return _explain_several(context, {"reference": word, "found": len(ids)}, ids, note)


def _unindexed(context: Context, selector: Selector) -> Iterator[str]:
    """Yield that a reference was looked up where not every message is, if that is known."""
    if not (context.settings.index and selector.has_index()):
        yield _(
            "a reference is looked up in the index, which messages sent with SMSQ_INDEX=0 are not "
            "in; to look through all: smsq list --scan --reference"
        )


def _ids(selector: Selector, field: str, word: str, last: int) -> list[str]:
    return [one for one, _at in selector.page(Selection({field: [word]}), last).rows]


def _explain_several(context: Context, what: dict[str, Any], ids: Iterable[str], note: str) -> bool:
    """Print messages as a list, or the only one in full; return whether there is one."""
    client, url = context.client, context.settings.redis_url
    found = [status for status in read_statuses(client, url, ids) if status is not None]
    if len(found) == 1 and what["found"] == 1:
        return _explain_id(context, found[0].id)
    found.sort(key=lambda one: one.enqueued_at, reverse=True)
    if found:
        rows = [row(context, status) for status in found]
        _echo_several(context, what | {"note": note, "messages": rows})
    return bool(found)


def _echo_several(context: Context, answer: dict[str, Any]) -> None:
    lines = [*table_lines(answer["messages"]), *wrapped(answer["note"], terminal_columns())]
    _echo(context, answer, [*lines, _("one of them: smsq explain ID")])


def _explain_phone(context: Context, selector: Selector, phone: str) -> None:
    settings, client = context.settings, context.client
    masked, total = mask_phone(phone), selector.size()
    with meter(_("searching"), total, quiet=not sys.stderr.isatty()) as step:
        found = selector.page(
            Selection(phone=phone),
            sys.maxsize - 1,
            scan=True,
            on_slice=lambda looked, n: step(min(looked, total), _("{n} found", n=n)),
        ).rows
    newest = [one for one, _at in found[: context.last]]
    statuses = read_statuses(client, settings.redis_url, newest)
    rows = [row(context, status) for status in statuses if status is not None]
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
    if context.ticket:
        _show_ticket(context, trace)
        return
    answer["story"] = explanation(context, trace)
    _echo(
        context,
        answer,
        [*explanation_lines(answer["story"]), "", *wrapped(note, terminal_columns())],
    )


def _show_ticket(context: Context, trace: Trace) -> None:
    settings, number = context.settings, ""
    if context.show_number:
        cipher = Opener(context.client, settings, strict=True)()
        number = number_of(context.client, settings.redis_url, trace.status.id, cipher)
    lines = ticket.of_a_message(trace.status, number, context.catalogues)
    if lines is None:
        words = _(
            "smsq: the gateway took no call of {id}, so there is nothing to ask the vendor",
            id=trace.status.id,
        )
        fail(words)
    echo_lines(lines)


def _echo(context: Context, answer: dict[str, Any], lines: Iterable[str]) -> None:
    if context.as_json:
        echo_json(answer)
    else:
        echo_lines(lines)


def _unknown(context: Context, what: str) -> NoReturn:
    kept = span(context.settings.retention_s)
    words = _(
        "smsq: {what}. It may have been forgotten (a message is kept for {span} after its end, "
        "SMSQ_RETENTION_S), never enqueued (delay() raised), or be in another Redis than that of "
        "SMSQ_REDIS_URL",
        what=clean(what),
        span=kept,
    )
    fail(words)
