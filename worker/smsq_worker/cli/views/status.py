"""The snapshot and a message's status, as `smsq status` prints them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from smsq.contract import State
from smsq.settings import shown_url
from smsq.tracking import read_status
from smsq_worker.cli.helpers.accounts import unknown_here
from smsq_worker.cli.helpers.layout import padded, width
from smsq_worker.cli.helpers.ledger_client import connect_ledger, open_ledger
from smsq_worker.cli.helpers.output import echo, echo_json, echo_lines, fail
from smsq_worker.cli.views import rate as rate_view
from smsq_worker.cli.views.accounts import account_as_dict, pause_as_dict
from smsq_worker.cli.views.watch import watch
from smsq_worker.config.settings import Settings
from smsq_worker.domain.printable import json_text
from smsq_worker.i18n import N_, _, ngettext, pgettext
from smsq_worker.infra.memory import Memory
from smsq_worker.inspection import notify_queue
from smsq_worker.inspection.accounts import AccountView, account_state_name, with_account_names
from smsq_worker.inspection.formatting import (
    local,
    local_instant,
    moment,
    pause_whole,
    span,
    state_name,
)
from smsq_worker.inspection.notify_queue import NotifyQueue
from smsq_worker.inspection.snapshot import LIVE_STATES, Inspector, LaneView, Snapshot
from smsq_worker.ledger.types import INBOX_UNKNOWN

_WATCH_S: Final = 1.5
_NAMES: Final = 9
"""Columns of what a line is about."""
_FIELDS: Final = 12
"""Columns of a field of one message."""


def show_overview(*, as_json: bool) -> None:
    """Print the snapshot once; exits with 1 where the broker does not answer."""
    settings, client = open_ledger()
    inspector = Inspector(client, settings.rules, settings.broker_url)
    # Closed here: where the command fails, the interpreter would warn of its connection at the end.
    with client, closing(inspector):
        snapshot = inspector.take_snapshot()
        partly = unknown_here(settings, inspector.control)
    notify = notify_queue.look_quickly(settings)
    if as_json:
        echo_json(_as_dict(snapshot, notify))
    else:
        echo_lines(_lines(snapshot, notify))
    if partly:
        echo(f"smsq: {partly}", err=True)
    if not snapshot.broker_answers:
        fail(_broker_away(settings))


def watch_overview(every_s: int, *, as_json: bool) -> None:
    """Print the snapshot again and again until Ctrl-C."""
    settings = Settings.load(os.environ)
    # So that an outage is shown soon.
    impatient = min(settings.enqueue_timeout_s, _WATCH_S)
    client = connect_ledger(replace(settings, enqueue_timeout_s=impatient))
    inspector = Inspector(client, settings.rules, settings.broker_url)

    def look() -> list[str]:
        snapshot = inspector.take_snapshot()
        notify = notify_queue.look_quickly(settings)
        if as_json:
            return [json_text(_as_dict(snapshot, notify))]
        away = [] if snapshot.broker_answers else [_broker_away(settings)]
        return [_line(_("at"), local(snapshot.at)), *_lines(snapshot, notify), *away]

    watch(look, every_s)


def _broker_away(settings: Settings) -> str:
    broker = shown_url(settings.broker_url)
    return "smsq: " + _("the broker at {broker} (SMSQ_BROKER_URL) does not answer", broker=broker)


def _line(name: str, text: str) -> str:
    return f"{padded(name, _NAMES)} {text}"


def _lines(snapshot: Snapshot, notify: NotifyQueue | None) -> Iterator[str]:
    rate, memory = snapshot.rate, snapshot.memory
    limit = rate_view.limit(rate)
    yield _line(
        _("rate"),
        _("{limit}, set by an operator", limit=limit)
        if rate.by_operator
        else _("{limit}, set by the settings", limit=limit),
    )
    none_goes = _("0/s: all accounts are paused")
    yield _line(_("now"), rate_view.current(rate) if rate.now else none_goes)
    for view in snapshot.accounts:
        yield _line(_("account"), _account_words(view))
    for words in _paused(snapshot):
        yield _line(_("paused"), words)
    yield from (
        _line(_("memory"), _memory_words(*one)) for one in memory.items() if one[1].is_short
    )
    for name, why in snapshot.refusals.items():
        yield _line("redis", _refusal_words(name, why))
    yield from _lane_lines(snapshot)
    reports = snapshot.reports_waiting
    yield _line(_("reports"), _("{n} waiting", n="?" if reports is None else reports))
    if snapshot.inbox >= INBOX_UNKNOWN:
        inbox = _("{n} reports wait, too many: see smsq doctor", n=snapshot.inbox)
        yield _line(_("inbox"), inbox)
    held = _("{n}, decide: smsq held", n=snapshot.held)
    yield _line(_("held"), held if snapshot.held else "0")
    parked = _("{n}, look: smsq parked", n=snapshot.parked)
    yield _line(_("parked"), parked if snapshot.parked else "0")
    waiting, dead = snapshot.callbacks["waiting"], snapshot.callbacks["dead"]
    callbacks = (
        N_("{waiting} waiting, {dead} given up, look: smsq notices")
        if dead
        else N_("{waiting} waiting, {dead} given up")
    )
    yield _line(_("callbacks"), _(callbacks, waiting=waiting, dead=dead))
    if notify and notify.ours:
        yield _line("notify=", _notify_words(notify))
    yield _line(_("to send"), _drain(snapshot))


def _paused(snapshot: Snapshot) -> Iterator[str]:
    yield from map(pause_whole, snapshot.pauses)
    campaigns, messages = snapshot.paused_campaigns
    if campaigns:
        yield ngettext(
            "campaigns: {n} message of theirs waits, look: smsq campaign",
            "campaigns: {n} messages of theirs wait, look: smsq campaign",
            messages,
        )


def _account_words(view: AccountView) -> str:
    return ngettext(
        "{name}: {state}, {rate}, {n} report awaited",
        "{name}: {state}, {rate}, {n} reports awaited",
        view.counts.awaiting_reports,
        name=view.account.name,
        state=account_state_name(view.state),
        rate=rate_view.current(view.rate),
    )


def _lane_lines(snapshot: Snapshot) -> Iterator[str]:
    heads = [state_name(state) for state in LIVE_STATES]
    yield padded(_("lane"), 9) + "".join(f" {' ' * (9 - width(head))}{head}" for head in heads)
    for name, lane in snapshot.lanes.items():
        counts = "".join(f" {lane.live[state]:>9}" for state in LIVE_STATES)
        yield f"{name:9}{counts}"
    for name, lane in snapshot.lanes.items():
        if lane.oldest:
            age = span(lane.oldest.age_s)
            words = _("{lane}: {id}, waits for {age}", lane=name, id=lane.oldest.id, age=age)
            yield _line(_("oldest"), words)


def _notify_words(notify: NotifyQueue) -> str:
    return ngettext(
        "{n} task waits in queue {queue} for the application; if it stays, look: smsq doctor",
        "{n} tasks wait in queue {queue} for the application; if they stay, look: smsq doctor",
        notify.waiting,
        queue=notify.name,
    )


def _memory_words(name: str, memory: Memory) -> str:
    is_ledger = name == "ledger"
    if memory.is_full and is_ledger:
        words = _("the ledger's Redis is full and takes no message and no report")
    elif memory.is_full:
        words = _("the broker's Redis is full and takes no wake-up")
    elif is_ledger:
        words = _("the ledger's Redis is nearly full")
    else:
        words = _("the broker's Redis is nearly full")
    if not memory.limit:
        return words
    share = _("{share:.0%} of its maxmemory is in use", share=memory.used / memory.limit)
    return _("{name}: {meaning}", name=words, meaning=share)


def _refusal_words(name: str, why: str) -> str:
    if name == "ledger":
        what = _("the ledger's Redis refuses whatever is written, so nothing is sent")
    else:
        what = _("the broker's Redis refuses whatever is written, so no wake-up comes in")
    return _("{name}: {meaning}", name=what, meaning=why)


def _drain(snapshot: Snapshot) -> str:
    if snapshot.drain_s is None:
        return _("{n}, stopped", n=snapshot.to_send)
    takes, rate = span(snapshot.drain_s), snapshot.rate.now
    if snapshot.drain_s == snapshot.slowed_s > 0:
        return _(
            "{n}, takes {time} at least, as a campaign has a rate of its own: smsq campaign",
            n=snapshot.to_send,
            time=takes,
        )
    return _("{n}, takes {time} at {rate:g}/s", n=snapshot.to_send, time=takes, rate=rate)


def _as_dict(snapshot: Snapshot, notify: NotifyQueue | None) -> dict[str, Any]:
    several: dict[str, Any] = {}
    if snapshot.accounts:
        several = {"accounts": [account_as_dict(view) for view in snapshot.accounts]}
    return several | {
        "at": moment(snapshot.at),
        "rate": rate_view.as_dict(snapshot.rate),
        "pauses": [pause_as_dict(pause) | {"scope": pause.scope} for pause in snapshot.pauses],
        "paused_campaigns": dict(
            zip(("campaigns", "waiting"), snapshot.paused_campaigns, strict=True)
        ),
        "lanes": {name: _lane_as_dict(lane) for name, lane in snapshot.lanes.items()},
        "reports_waiting": snapshot.reports_waiting,
        "inbox": snapshot.inbox,
        "held": snapshot.held,
        "parked": snapshot.parked,
        "notices": snapshot.callbacks,
        "notify_queue": notify
        and {"queue": notify.name, "waiting": notify.waiting, "from_smsq": notify.ours},
        "to_send": snapshot.to_send,
        "stopped": snapshot.stopped,
        "drain_s": snapshot.drain_s,
        "memory": {name: memory._asdict() for name, memory in snapshot.memory.items()},
        "refusals": snapshot.refusals,
    }


def _lane_as_dict(lane: LaneView) -> dict[str, Any]:
    oldest = lane.oldest and {
        "id": lane.oldest.id,
        "enqueued_at": moment(lane.oldest.enqueued_at),
        "age_s": lane.oldest.age_s,
    }
    return {"waiting": lane.live[State.QUEUED], **lane.live, "oldest": oldest}


def show_message(message_id: str, *, as_json: bool) -> None:
    """Print a message's status; exits with 1 where nothing is known of it."""
    settings, client = open_ledger()
    found = read_status(client, settings.redis_url, message_id)
    if found is None:
        fail("smsq: " + _("nothing is known of {word!r}", word=message_id))
    fields = with_account_names(found, settings.rules.accounts)
    attempts = fields["attempts"]
    if as_json:
        echo_json(fields, default=datetime.isoformat)
        return
    del fields["attempts"]
    for name, value in fields.items():
        if value is not None and (value or name != "is_test"):
            echo(f"{padded(pgettext('field', name), _FIELDS)} {_shown(name, value)}")
    for attempt in attempts:
        names = ("account", "outcome", "detail", "mid", "stat")
        words = [attempt[name] for name in names if attempt.get(name)]
        at = local_instant(attempt["started_at"])
        name = _("attempt {n}", n=attempt["n"])
        echo(f"{padded(name, _FIELDS)} {' '.join([at, *words])}")


def _shown(name: str, value: object) -> str:
    if isinstance(value, datetime):
        return local_instant(value)
    if isinstance(value, bool):
        return pgettext("value", "True") if value else pgettext("value", "False")
    return state_name(str(value)) if name == "state" else str(value)
