"""`smsq status`: the whole at a glance, or what is known of a message."""

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
from smsq_worker.cli.commands.rate import as_dict as rate_as_dict
from smsq_worker.cli.helpers.watch import watch
from smsq_worker.cli.helpers.words import rate_now
from smsq_worker.cli.helpers.writing import to_read
from smsq_worker.config.settings import Settings
from smsq_worker.infra.memory import Memory
from smsq_worker.inspection.formatting import moment, pause_end, pause_words, scope_words, span
from smsq_worker.inspection.snapshot import LIVE_STATES, Inspector, LaneView, Snapshot
from smsq_worker.ledger.admin import Pause

_WATCH_S: Final = 1.5

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq status
  smsq status --json
  smsq status --watch           look again every 2 s, until Ctrl-C
  smsq status --watch 60 --json | tee -a status.jsonl
  smsq status 4dd2cb4e-3b39-4be9-93a2-1a7d1de3d2f5
"""


@click.command(epilog=_EXAMPLES)
@click.argument("message_id", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--watch",
    "every_s",
    metavar="[SECONDS]",
    type=click.IntRange(1, 86_400),
    is_flag=False,
    flag_value=2,
    help="Look again every 2 s, or SECONDS, until Ctrl-C.",
)
def status(message_id: str | None, *, as_json: bool, every_s: int | None) -> None:
    """Show the whole at a glance; with ID, what is known of a message.

    The whole: the rate and what pauses it, what waits in each lane and for how long the oldest
    has, and how long it takes to send what waits. What happened to a message is told by `smsq
    explain ID`.

    With --watch the whole is shown in place on a terminal; elsewhere it is printed each time, as
    one line of JSON with --json. While Redis is away it says so, and goes on. Ctrl-C exits with 0.

    Exits with 1 where nothing is known of ID, or where the broker does not answer and the counts
    of its queues are missing.
    """
    if message_id is not None:
        if every_s is not None:
            raise click.UsageError("--watch shows the whole, so it takes no ID")
        _show_message(message_id, as_json=as_json)
    elif every_s is None:
        _show_whole(as_json=as_json)
    else:
        _watch(every_s, as_json=as_json)


def _show_whole(*, as_json: bool) -> None:
    settings = Settings.load(os.environ)
    lookout = _lookout(settings)
    whole = lookout.take_snapshot()
    if as_json:
        click.echo(json.dumps(_as_dict(whole), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_lines(whole)))
    if not whole.broker_answers:
        click.echo(_broker_away(settings), err=True)
        raise SystemExit(1)


def _watch(every_s: int, *, as_json: bool) -> None:
    settings = Settings.load(os.environ)
    # Who watches is to see soon that there is nothing to be seen.
    impatient = min(settings.enqueue_timeout_s, _WATCH_S)
    lookout = _lookout(replace(settings, enqueue_timeout_s=impatient))

    def look() -> list[str]:
        whole = lookout.take_snapshot()
        if as_json:
            return [json.dumps(_as_dict(whole), ensure_ascii=False)]
        away = [] if whole.broker_answers else [_broker_away(settings)]
        return [f"at        {moment(whole.at)}", *_lines(whole), *away]

    watch(look, every_s)


def _lookout(settings: Settings) -> Inspector:
    return Inspector(to_read(settings), settings.rules, settings.broker_url)


def _broker_away(settings: Settings) -> str:
    broker = shown_url(settings.broker_url)
    return f"smsq: the broker at {broker} (SMSQ_BROKER_URL) does not answer"


def _lines(whole: Snapshot) -> Iterator[str]:
    by = "an operator" if whole.rate.by_operator else "the settings"
    yield f"rate      {whole.rate.limit:g}/s, burst {whole.rate.burst}, set by {by}"
    yield f"now       {rate_now(whole.rate)}"
    for pause in whole.pauses:
        yield f"paused    {scope_words(pause.scope)} ({pause_words(pause)}); {pause_end(pause)}"
    for name, memory in whole.memory.items():
        if memory.is_short:
            yield f"memory    {_memory_words(name, memory)}"
    yield f"{'lane':9}" + "".join(f" {state:>9}" for state in LIVE_STATES)
    for name, lane in whole.lanes.items():
        counts = "".join(f" {lane.live[state]:>9}" for state in LIVE_STATES)
        yield f"{name:9}{counts}"
    for name, lane in whole.lanes.items():
        if lane.oldest:
            yield f"oldest    {name}: {lane.oldest.id}, waits for {span(lane.oldest.age_s)}"
    yield f"reports   {_count(whole.reports_waiting)} waiting"
    yield f"held      {whole.held}" + ", decide: smsq held" * bool(whole.held)
    yield f"parked    {whole.parked}" + ", look: smsq parked" * bool(whole.parked)
    told, dead = whole.callbacks["waiting"], whole.callbacks["dead"]
    yield f"outcomes  {told} to be told, {dead} given up" + ", look: smsq notices" * bool(dead)
    yield f"to send   {whole.to_send}, {_drain(whole)}"


def _memory_words(name: str, memory: Memory) -> str:
    whose = f"the {name}'s Redis"
    share = f": {memory.used / memory.limit:.0%} of its maxmemory is in use" if memory.limit else ""
    if memory.is_full:
        stops = "no message and no report" if name == "ledger" else "no wake-up"
        return f"{whose} is full and takes {stops}{share}"
    return f"{whose} is nearly full{share}"


def _drain(whole: Snapshot) -> str:
    if whole.drain_s is None:
        return "stopped"
    return f"takes {span(whole.drain_s)} at {whole.rate.now:g}/s"


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _as_dict(whole: Snapshot) -> dict[str, Any]:
    return {
        "at": moment(whole.at),
        "rate": rate_as_dict(whole.rate),
        "pauses": [_pause_as_dict(pause) for pause in whole.pauses],
        "lanes": {name: _lane_as_dict(lane) for name, lane in whole.lanes.items()},
        "reports_waiting": whole.reports_waiting,
        "held": whole.held,
        "parked": whole.parked,
        "notices": whole.callbacks,
        "to_send": whole.to_send,
        "stopped": whole.stopped,
        "drain_s": whole.drain_s,
        "memory": {
            name: {"used": memory.used, "limit": memory.limit, "is_full": memory.is_full}
            for name, memory in whole.memory.items()
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


def _show_message(message_id: str, *, as_json: bool) -> None:
    found = smsq.status(message_id)
    if found is None:
        click.echo(f"smsq: nothing is known of {message_id!r}", err=True)
        raise SystemExit(1)
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
