"""What `smsq explain` answers, as JSON shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from smsq.connection import Client
from smsq.tracking import Status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues, Code
from smsq_worker.i18n import _
from smsq_worker.inspection.code_text import class_words, meaning
from smsq_worker.inspection.events import Event, Story
from smsq_worker.inspection.forecast import next_events
from smsq_worker.inspection.formatting import clean, instant, local, local_instant, moment
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.inspection.state_text import state_words
from smsq_worker.inspection.timeline import past_events
from smsq_worker.ledger.message_view import Trace


@dataclass(frozen=True, slots=True)
class Context:
    """What every answer needs, and what was asked for."""

    settings: Settings
    client: Client
    catalogues: Catalogues
    last: int
    as_json: bool
    ticket: bool
    show_number: bool

    @property
    def time(self) -> Callable[[datetime], str]:
        """Return what writes a time for whoever reads the answer."""
        return instant if self.as_json else local_instant


def explanation(context: Context, trace: Trace) -> dict[str, Any]:
    """Return a message's past and future as JSON shows them."""
    settings, status = context.settings, trace.status
    with closing(Inspector(context.client, settings.rules, settings.broker_url)) as inspector:
        story = Story(trace, context.catalogues, settings, inspector)
        following = [_event(context, event) for event in next_events(story)]
        before = [_event(context, event) for event in past_events(story)]
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
        "events": before,
        "next": following,
    }


def parked_mid(
    context: Context,
    mid: str,
    codes: Sequence[Code],
    since: datetime | None,
    sharers: Sequence[str],
) -> dict[str, Any]:
    """Return what is known of a mid that no message has, as JSON shows it."""
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


def _event(context: Context, event: Event) -> dict[str, Any]:
    return asdict(event) | {"at": event.at and context.time(event.at)}


def row(context: Context, status: Status) -> dict[str, Any]:
    """Return a message of a list, as JSON shows it."""
    time = moment if context.as_json else local
    return {
        "id": status.id,
        "enqueued_at": time(status.enqueued_at),
        "state": status.state,
        "reason": status.reason,
    }
