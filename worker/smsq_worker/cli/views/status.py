"""The snapshot and a message's status, as `smsq status` prints them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import click

import smsq
from smsq.contract import State
from smsq.settings import shown_url
from smsq_worker.cli.helpers.ledger_client import connect_ledger
from smsq_worker.cli.helpers.output import echo_json, fail
from smsq_worker.cli.views import rate as rate_view
from smsq_worker.cli.views.watch import watch
from smsq_worker.config.settings import Settings
from smsq_worker.infra.memory import Memory
from smsq_worker.inspection.formatting import moment, pause_end, pause_words, scope_words, span
from smsq_worker.inspection.snapshot import LIVE_STATES, Inspector, LaneView, Snapshot
from smsq_worker.ledger.admin import Pause
from smsq_worker.ledger.types import INBOX_UNKNOWN

_WATCH_S: Final = 1.5


def show_overview(*, as_json: bool) -> None:
    """Print the snapshot once; exits with 1 where the broker does not answer."""
    settings = Settings.load(os.environ)
    inspector = _make_inspector(settings)
    snapshot = inspector.take_snapshot()
    if as_json:
        echo_json(_as_dict(snapshot))
    else:
        click.echo("\n".join(_lines(snapshot)))
    if not snapshot.broker_answers:
        fail(_broker_away(settings))


def watch_overview(every_s: int, *, as_json: bool) -> None:
    """Print the snapshot again and again until Ctrl-C."""
    settings = Settings.load(os.environ)
    # So that an outage is shown soon.
    impatient = min(settings.enqueue_timeout_s, _WATCH_S)
    inspector = _make_inspector(replace(settings, enqueue_timeout_s=impatient))

    def look() -> list[str]:
        snapshot = inspector.take_snapshot()
        if as_json:
            return [json.dumps(_as_dict(snapshot), ensure_ascii=False)]
        away = [] if snapshot.broker_answers else [_broker_away(settings)]
        return [f"at        {moment(snapshot.at)}", *_lines(snapshot), *away]

    watch(look, every_s)


def _make_inspector(settings: Settings) -> Inspector:
    return Inspector(connect_ledger(settings), settings.rules, settings.broker_url)


def _broker_away(settings: Settings) -> str:
    broker = shown_url(settings.broker_url)
    return f"smsq: the broker at {broker} (SMSQ_BROKER_URL) does not answer"


def _lines(snapshot: Snapshot) -> Iterator[str]:
    by = "an operator" if snapshot.rate.by_operator else "the settings"
    yield f"rate      {snapshot.rate.limit:g}/s, burst {snapshot.rate.burst}, set by {by}"
    yield f"now       {rate_view.current(snapshot.rate)}"
    for pause in snapshot.pauses:
        yield f"paused    {scope_words(pause.scope)} ({pause_words(pause)}); {pause_end(pause)}"
    for name, memory in snapshot.memory.items():
        if memory.is_short:
            yield f"memory    {_memory_words(name, memory)}"
    yield f"{'lane':9}" + "".join(f" {state:>9}" for state in LIVE_STATES)
    for name, lane in snapshot.lanes.items():
        counts = "".join(f" {lane.live[state]:>9}" for state in LIVE_STATES)
        yield f"{name:9}{counts}"
    for name, lane in snapshot.lanes.items():
        if lane.oldest:
            yield f"oldest    {name}: {lane.oldest.id}, waits for {span(lane.oldest.age_s)}"
    yield f"reports   {_count(snapshot.reports_waiting)} waiting"
    if snapshot.inbox >= INBOX_UNKNOWN:
        yield f"inbox     {snapshot.inbox} reports wait, too many: see smsq doctor"
    yield f"held      {snapshot.held}" + ", decide: smsq held" * bool(snapshot.held)
    yield f"parked    {snapshot.parked}" + ", look: smsq parked" * bool(snapshot.parked)
    waiting, dead = snapshot.callbacks["waiting"], snapshot.callbacks["dead"]
    yield f"callbacks {waiting} waiting, {dead} given up" + ", look: smsq notices" * bool(dead)
    yield f"to send   {snapshot.to_send}, {_drain(snapshot)}"


def _memory_words(name: str, memory: Memory) -> str:
    whose = f"the {name}'s Redis"
    share = f": {memory.used / memory.limit:.0%} of its maxmemory is in use" if memory.limit else ""
    if memory.is_full:
        stops = "no message and no report" if name == "ledger" else "no wake-up"
        return f"{whose} is full and takes {stops}{share}"
    return f"{whose} is nearly full{share}"


def _drain(snapshot: Snapshot) -> str:
    if snapshot.drain_s is None:
        return "stopped"
    return f"takes {span(snapshot.drain_s)} at {snapshot.rate.now:g}/s"


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _as_dict(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "at": moment(snapshot.at),
        "rate": rate_view.as_dict(snapshot.rate),
        "pauses": [_pause_as_dict(pause) for pause in snapshot.pauses],
        "lanes": {name: _lane_as_dict(lane) for name, lane in snapshot.lanes.items()},
        "reports_waiting": snapshot.reports_waiting,
        "inbox": snapshot.inbox,
        "held": snapshot.held,
        "parked": snapshot.parked,
        "notices": snapshot.callbacks,
        "to_send": snapshot.to_send,
        "stopped": snapshot.stopped,
        "drain_s": snapshot.drain_s,
        "memory": {
            name: {"used": memory.used, "limit": memory.limit, "is_full": memory.is_full}
            for name, memory in snapshot.memory.items()
        },
    }


def _pause_as_dict(pause: Pause) -> dict[str, str | None]:
    return {
        "scope": pause.scope,
        "cause": pause.cause,
        "detail": pause.detail,
        "since": moment(pause.since),
        "probe_at": None if pause.probe_at is None else moment(pause.probe_at),
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
    found = smsq.status(message_id)
    if found is None:
        fail(f"smsq: nothing is known of {message_id!r}")
    fields = dataclasses.asdict(found)
    if as_json:
        click.echo(json.dumps(fields, default=_isoformat, ensure_ascii=False, indent=2))
        return
    attempts = fields.pop("attempts")
    for name, value in fields.items():
        if value is not None:
            # The reference is the caller's own text.
            shown = "".join(c if c.isprintable() else " " for c in _isoformat(value))
            click.echo(f"{name:12} {shown}")
    for attempt in attempts:
        words = [
            str(attempt[name]) for name in ("outcome", "detail", "mid", "stat") if attempt[name]
        ]
        click.echo(
            f"attempt {attempt['n']:<4} {_isoformat(attempt['started_at'])} {' '.join(words)}"
        )


def _isoformat(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
