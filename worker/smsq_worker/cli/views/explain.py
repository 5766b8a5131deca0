"""A message's past and future, as `smsq explain` prints them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

import click

from smsq.cipher import PlaintextCipher, opener
from smsq.connection import Client
from smsq.contract import mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq.tracking import Status, read_status
from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo_json, echo_lines, fail
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogue
from smsq_worker.inspection.code_text import Lang, class_words, meaning
from smsq_worker.inspection.forecast import ForecastContext, next_events
from smsq_worker.inspection.formatting import clean, instant, moment, span
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.inspection.timeline import Event, past_events, state_words
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.message_view import Trace, mid_of, parked_since, read_trace, sharers_of
from smsq_worker.ledger.search import find, size

_NUMBER: Final = re.compile(r"\+?[0-9 ()-]+")
_BLANK: Final = " " * len(instant(datetime.fromtimestamp(0).astimezone()))


@dataclass(frozen=True, slots=True)
class _Context:
    """What every answer needs."""

    settings: Settings
    client: Client
    catalogue: Catalogue
    lang: Lang
    as_json: bool


def show_explanation(word: str, *, last: int, as_json: bool, lang: Lang) -> None:
    """Print what is known of a message's id, of a mid, or of a number."""
    settings = Settings.load(os.environ)
    catalogue = Catalogue.load(settings.codes_file)
    with connect_ledger(settings) as client:
        context = _Context(settings, client, catalogue, lang, as_json)
        if not (_explain_id(context, word) or _explain_mid(context, word)):
            if not _NUMBER.fullmatch(word):
                _unknown(context, f"nothing is known of {word!r}")
            _explain_phone(context, _phone(word), last)


def _phone(word: str) -> str:
    try:
        return parse_phone(word)
    except InvalidMessage as error:
        raise click.UsageError(f"no id and no mid that is known, and no number: {error}") from None


def _explain_id(context: _Context, message_id: str, mid: str = "") -> bool:
    trace = read_trace(context.client, context.settings.redis_url, message_id)
    if trace is not None:
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
                context, f"{mid} was assigned to attempt {n} of {message_id}, which is forgotten"
            )
        return True
    since = parked_since(context.client, url, mid)
    sharers = sharers_of(context.client, url, mid)
    if since is None and not sharers:
        return False
    answer = _parked(context, mid, since, sharers)
    _echo(context, answer, _lines(answer))
    return True


def _explain_phone(context: _Context, phone: str, last: int) -> None:
    settings, client = context.settings, context.client
    ciphers = (opener(client, settings, strict=True)(), PlaintextCipher())
    digests = {cipher.phone_hash(phone) for cipher in ciphers}
    masked = mask_phone(phone)
    total = size(client, settings.rules)
    with meter("searching", total, quiet=not sys.stderr.isatty()) as step:
        found, count = find(
            client,
            settings.rules,
            masked,
            digests,
            last=last,
            told=lambda looked, hits: step(min(looked, total), f"{hits} found"),
        )
    statuses = [read_status(client, settings.redis_url, message_id) for message_id, _ in found]
    rows = [_row(status) for status in statuses if status is not None]
    if not rows:
        _unknown(context, f"no message to {masked} is known")
    note = (
        f"{masked}: the newest {len(rows)} of {count} messages; of those that have ended the "
        "middle digits are not kept, so another number's may be among them"
    )
    answer: dict[str, Any] = {"phone": masked, "found": count, "note": note, "messages": rows}
    if len(rows) > 1:
        _echo(context, answer, [*_table(rows), note, "one of them: smsq explain ID"])
        return
    trace = read_trace(client, settings.redis_url, rows[0]["id"])
    if trace is None:
        _unknown(context, f"the message to {masked} has just been forgotten")
    answer["story"] = _explanation(context, trace)
    _echo(context, answer, [*_lines(answer["story"]), "", note])


def _explanation(context: _Context, trace: Trace) -> dict[str, Any]:
    """Return a message's past and future as JSON shows them."""
    settings = context.settings
    inspector = Inspector(context.client, settings.rules, settings.broker_url)
    past = past_events(trace, context.catalogue, context.lang, webhook=bool(settings.webhook_url))
    following = list(
        map(_event, next_events(ForecastContext(trace, inspector, settings.bulk_hours)))
    )
    inspector.close()
    status = trace.status
    return {
        "id": status.id,
        "at": instant(trace.at),
        "phone": status.phone,
        "template": status.template,
        "lane": status.lane,
        "state": status.state,
        "reason": status.reason,
        "words": state_words(status.state),
        "events": list(map(_event, past)),
        "next": following,
    }


def _parked(
    context: _Context, mid: str, since: datetime | None, sharers: Sequence[str]
) -> dict[str, Any]:
    stats = Ledger(context.client, context.settings.rules).parked_stats(mid)
    codes = [context.catalogue.classify(stat) for stat in stats]
    events = [
        Event(
            since if n == 0 else None,
            "report",
            f"report {code.stat}: {meaning(code, context.lang)}\n"
            f"  {class_words(code.code_class, context.lang)}",
        )
        for n, code in enumerate(codes)
    ]
    lost = (
        "No message is known to have this mid: the response with it was lost or is still in a "
        "worker's spool, the message is forgotten, or somebody else sends over the same account."
    )
    reused = (
        f"The gateway assigned this mid to more than one message: {clean(' and '.join(sharers))} "
        "were the first. It is unknown which of them a report is about, so it settles neither."
    )
    following = []
    if since is not None:
        waits = "it is kept" if sharers else "it waits for the response with its mid"
        kept = since + timedelta(seconds=context.settings.report_wait_s)
        following.append(Event(kept, "forgotten", f"until then {waits}"))
    return {
        "mid": mid,
        "state": "reused" if sharers else "parked",
        "words": reused if sharers else lost,
        "messages": list(sharers),
        "events": list(map(_event, events)),
        "next": list(map(_event, following)),
    }


def _event(event: Event) -> dict[str, Any]:
    return asdict(event) | {"at": event.at and instant(event.at)}


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    """Return the lines of an explanation."""
    if "id" in answer:
        yield f"message  {answer['id']}"
        yield f"to       {answer['phone'] or '?'}, template {answer['template'] or '?'}"
    if "mid" in answer:
        yield f"mid      {answer['mid']}"
    yield f"state    {answer['state']}: {answer['words']}"
    yield ""
    yield from _event_lines(answer["events"])
    if answer["next"]:
        yield ""
        yield "Next"
        yield from _event_lines(answer["next"])


def _event_lines(events: Iterable[dict[str, Any]]) -> Iterator[str]:
    for event in events:
        first, *more = event["text"].splitlines()
        yield f"{event['at'] or _BLANK}  {first}"
        yield from (f"{_BLANK}  {line}" for line in more)


def _row(status: Status) -> dict[str, Any]:
    return {
        "id": status.id,
        "enqueued_at": moment(status.enqueued_at),
        "state": status.state,
        "reason": status.reason,
    }


def _table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield "  ".join(
            (row["id"], row["enqueued_at"], f"{row['state']:10}", row["reason"] or "")
        ).rstrip()


def _echo(context: _Context, answer: dict[str, Any], lines: Iterable[str]) -> None:
    if context.as_json:
        echo_json(answer)
    else:
        echo_lines(lines)


def _unknown(context: _Context, what: str) -> NoReturn:
    kept = span(context.settings.retention_s)
    fail(
        f"smsq: {clean(what)}. It may have been forgotten (a message is kept for {kept} after its "
        "end, SMSQ_RETENTION_S), never enqueued (delay() raised), or be in another Redis than that "
        "of SMSQ_REDIS_URL"
    )
