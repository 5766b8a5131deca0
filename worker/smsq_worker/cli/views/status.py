"""The overview and a message's status, as `smsq status` prints them."""

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
from smsq_worker.infra.wording import moment, span
from smsq_worker.inspection.forecast import pause_end, pause_words, scope_words
from smsq_worker.inspection.snapshot import LIVE_STATES, Inspector, LaneView, Overview
from smsq_worker.ledger.admin import Pause

_WATCH_S: Final = 1.5


def show_overview(*, as_json: bool) -> None:
    """Print the overview once; exits with 1 where the broker does not answer."""
    settings = Settings.load(os.environ)
    inspector = _make_inspector(settings)
    overview = inspector.look()
    if as_json:
        echo_json(_as_dict(overview))
    else:
        click.echo("\n".join(_lines(overview)))
    if not overview.broker_answers:
        fail(_broker_away(settings))


def watch_overview(every_s: int, *, as_json: bool) -> None:
    """Print the overview again and again until Ctrl-C."""
    settings = Settings.load(os.environ)
    # So that an outage is shown soon.
    impatient = min(settings.enqueue_timeout_s, _WATCH_S)
    inspector = _make_inspector(replace(settings, enqueue_timeout_s=impatient))

    def look() -> list[str]:
        overview = inspector.look()
        if as_json:
            return [json.dumps(_as_dict(overview), ensure_ascii=False)]
        away = [] if overview.broker_answers else [_broker_away(settings)]
        return [f"at        {moment(overview.at)}", *_lines(overview), *away]

    watch(look, every_s)


def _make_inspector(settings: Settings) -> Inspector:
    return Inspector(connect_ledger(settings), settings.rules, settings.broker_url)


def _broker_away(settings: Settings) -> str:
    broker = shown_url(settings.broker_url)
    return f"smsq: the broker at {broker} (SMSQ_BROKER_URL) does not answer"


def _lines(overview: Overview) -> Iterator[str]:
    by = "an operator" if overview.rate.by_operator else "the settings"
    yield f"rate      {overview.rate.limit:g}/s, burst {overview.rate.burst}, set by {by}"
    yield f"now       {rate_view.current(overview.rate)}"
    for pause in overview.pauses:
        yield f"paused    {scope_words(pause.scope)} ({pause_words(pause)}); {pause_end(pause)}"
    for name, memory in overview.memory.items():
        if memory.is_short:
            yield f"memory    {_memory_words(name, memory)}"
    yield f"{'lane':9}" + "".join(f" {state:>9}" for state in LIVE_STATES)
    for name, lane in overview.lanes.items():
        counts = "".join(f" {lane.live[state]:>9}" for state in LIVE_STATES)
        yield f"{name:9}{counts}"
    for name, lane in overview.lanes.items():
        if lane.oldest:
            yield f"oldest    {name}: {lane.oldest.id}, waits for {span(lane.oldest.age_s)}"
    yield f"reports   {_count(overview.reports_waiting)} waiting"
    yield f"held      {overview.held}" + ", decide: smsq held" * bool(overview.held)
    yield f"parked    {overview.parked}" + ", look: smsq parked" * bool(overview.parked)
    waiting, dead = overview.notices["waiting"], overview.notices["dead"]
    yield f"callbacks {waiting} waiting, {dead} given up" + ", look: smsq notices" * bool(dead)
    yield f"to send   {overview.to_send}, {_drain(overview)}"


def _memory_words(name: str, memory: Memory) -> str:
    whose = f"the {name}'s Redis"
    share = f": {memory.used / memory.limit:.0%} of its maxmemory is in use" if memory.limit else ""
    if memory.is_full:
        stops = "no message and no report" if name == "ledger" else "no wake-up"
        return f"{whose} is full and takes {stops}{share}"
    return f"{whose} is nearly full{share}"


def _drain(overview: Overview) -> str:
    if overview.drain_s is None:
        return "stopped"
    return f"takes {span(overview.drain_s)} at {overview.rate.now:g}/s"


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _as_dict(overview: Overview) -> dict[str, Any]:
    return {
        "at": moment(overview.at),
        "rate": rate_view.as_dict(overview.rate),
        "pauses": [_pause_as_dict(pause) for pause in overview.pauses],
        "lanes": {name: _lane_as_dict(lane) for name, lane in overview.lanes.items()},
        "reports_waiting": overview.reports_waiting,
        "held": overview.held,
        "parked": overview.parked,
        "notices": overview.notices,
        "to_send": overview.to_send,
        "stopped": overview.stopped,
        "drain_s": overview.drain_s,
        "memory": {
            name: {"used": memory.used, "limit": memory.limit, "is_full": memory.is_full}
            for name, memory in overview.memory.items()
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
