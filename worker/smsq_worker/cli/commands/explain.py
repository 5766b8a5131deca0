"""`smsq explain`: what happened to a message, and what happens next."""

from __future__ import annotations

import json
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
from smsq_worker.cli.helpers.lang import lang_option
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.writing import to_read
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

MAX_LAST: Final = 1000
MAX_WORD: Final = 255

_NUMBER: Final = re.compile(r"\+?[0-9 ()-]+")
_RULE: Final = "it takes a message's id, a mid of the gateway, or a phone number"
_BLANK: Final = " " * len(instant(datetime.fromtimestamp(0).astimezone()))

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq explain 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
  smsq explain 1151894566D2EDD9            by the gateway's mid
  smsq explain 13800138000 --last 5        the newest messages to a number
  smsq explain 1151894566D2EDD9 --lang zh  codes in Chinese
  smsq explain 1151894566D2EDD9 --json
"""


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every answer needs."""

    settings: Settings
    client: Client
    catalogue: Catalogue
    lang: Lang
    as_json: bool


@click.command(epilog=_EXAMPLES)
@click.argument("what", metavar="ID|MID|PHONE")
@click.option(
    "--last",
    type=click.IntRange(1, MAX_LAST),
    default=20,
    show_default=True,
    help="Of a number: so many of its newest messages.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@lang_option
def explain(what: str, *, last: int, as_json: bool, lang: Lang) -> None:
    """Tell what happened to a message, in order, and what happens next and when.

    The message is named by its id or by a mid. With a phone number, the newest messages to it are
    listed, or told if there is one alone. All of the ledger is looked through for that, in slices
    of a millisecond: some seconds for a million messages. Of messages that have ended the middle
    digits are not kept, so another number's may be among them.

    Exits with 1 where nothing is known of it, with 2 where it is no id, mid or number.
    """
    word = what.strip()
    if not word or len(word) > MAX_WORD or not word.isprintable():
        raise click.UsageError(_RULE)
    settings = Settings.load(os.environ)
    catalogue = Catalogue.load(settings.codes_file)
    with to_read(settings) as client:
        desk = _Desk(settings, client, catalogue, lang, as_json)
        if not (_explain_id(desk, word) or _explain_mid(desk, word)):
            if not _NUMBER.fullmatch(word):
                _unknown(desk, f"nothing is known of {word!r}")
            _explain_phone(desk, _phone(word), last)


def _phone(word: str) -> str:
    try:
        return parse_phone(word)
    except InvalidMessage as error:
        raise click.UsageError(f"no id and no mid that is known, and no number: {error}") from None


def _explain_id(desk: _Desk, message_id: str, mid: str = "") -> bool:
    trace = read_trace(desk.client, desk.settings.redis_url, message_id)
    if trace is not None:
        told = _story(desk, trace)
        if mid:
            told = {"mid": mid} | told
        _echo(desk, told, _lines(told))
    return trace is not None


def _explain_mid(desk: _Desk, mid: str) -> bool:
    url = desk.settings.redis_url
    if found := mid_of(desk.client, url, mid):
        n, message_id = found
        if not _explain_id(desk, message_id, mid):
            _unknown(desk, f"{mid} was given to call {n} of {message_id}, which is forgotten")
        return True
    since = parked_since(desk.client, url, mid)
    sharers = sharers_of(desk.client, url, mid)
    if since is None and not sharers:
        return False
    told = _parked(desk, mid, since, sharers)
    _echo(desk, told, _lines(told))
    return True


def _explain_phone(desk: _Desk, phone: str, last: int) -> None:
    settings, client = desk.settings, desk.client
    digests = {
        opener(client, settings, strict=True)().phone_hash(phone),
        PlaintextCipher().phone_hash(phone),
    }
    masked = mask_phone(phone)
    total = size(client, settings.rules)
    with meter("looking", total, quiet=not sys.stderr.isatty()) as step:
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
        _unknown(desk, f"no message to {masked} is known")
    note = (
        f"{masked}: the newest {len(rows)} of {count} messages; of those that have ended the "
        "middle digits are not kept, so another number's may be among them"
    )
    told: dict[str, Any] = {"phone": masked, "found": count, "note": note, "messages": rows}
    if len(rows) > 1:
        _echo(desk, told, [*_table(rows), note, "one of them: smsq explain ID"])
        return
    trace = read_trace(client, settings.redis_url, rows[0]["id"])
    if trace is None:
        _unknown(desk, f"the message to {masked} has just been forgotten")
    told["story"] = _story(desk, trace)
    _echo(desk, told, [*_lines(told["story"]), "", note])


def _story(desk: _Desk, trace: Trace) -> dict[str, Any]:
    """Give a message's story as JSON shows it."""
    settings = desk.settings
    lookout = Inspector(desk.client, settings.rules, settings.broker_url)
    past = past_events(trace, desk.catalogue, desk.lang, webhook=bool(settings.webhook_url))
    following = list(map(_event, next_events(ForecastContext(trace, lookout, settings.bulk_hours))))
    lookout.close()
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
    desk: _Desk, mid: str, since: datetime | None, sharers: Sequence[str]
) -> dict[str, Any]:
    stats = Ledger(desk.client, desk.settings.rules).parked_stats(mid)
    codes = [desk.catalogue.classify(stat) for stat in stats]
    events = [
        Event(
            since if n == 0 else None,
            "report",
            f"report {code.stat}: {meaning(code, desk.lang)}\n"
            f"  {class_words(code.code_class, desk.lang)}",
        )
        for n, code in enumerate(codes)
    ]
    lost = (
        "No message is known to have this mid: the answer that gave it was lost or is still in a "
        "worker's spool, the message is forgotten, or somebody else sends over the same account."
    )
    reused = (
        f"The gateway gave this mid to more than one message: {clean(' and '.join(sharers))} were "
        "the first. Which of them a report means cannot be told, so it settles neither."
    )
    following = []
    if since is not None:
        waits = "it is kept" if sharers else "it waits for the answer with its mid"
        kept = since + timedelta(seconds=desk.settings.report_wait_s)
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


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """Put a story into lines."""
    if "id" in told:
        yield f"message  {told['id']}"
        yield f"to       {told['phone'] or '?'}, template {told['template'] or '?'}"
    if "mid" in told:
        yield f"mid      {told['mid']}"
    yield f"state    {told['state']}: {told['words']}"
    yield ""
    yield from _event_lines(told["events"])
    if told["next"]:
        yield ""
        yield "Next"
        yield from _event_lines(told["next"])


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


def _echo(desk: _Desk, told: dict[str, Any], lines: Iterable[str]) -> None:
    if desk.as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(lines))


def _unknown(desk: _Desk, what: str) -> NoReturn:
    kept = span(desk.settings.retention_s)
    click.echo(
        f"smsq: {clean(what)}. It may have been forgotten (a message is kept for {kept} after its "
        "end, SMSQ_RETENTION_S), never enqueued (delay() raised), or be in another Redis than that "
        "of SMSQ_REDIS_URL",
        err=True,
    )
    raise SystemExit(1)
