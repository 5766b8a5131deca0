"""A campaign of a million messages is cancelled while it is sent, and swept while otps go on."""

from __future__ import annotations

import time
from statistics import median
from typing import Any, Final

import smsq
from bench.peers.goals import Goal
from bench.place import Place, until
from bench.plan import Plan
from bench.ratio import Ratio, ratio
from bench.scale.fill import Filled, phone
from bench.scale.measure import Measure, measuring
from bench.scale.queued import MESSAGES, used_memory
from bench.scale.result import SETTLE_S, WORKERS, Result, fresh, result, scaled
from bench.shapes import BATCH, CODE, TEMPLATE
from smsq import keys
from smsq.connection import Client
from smsq.contract import Lane

CAMPAIGN: Final = "spring"
ROUNDS: Final = 10
MOST: Final = 1.10
LONGEST_S: Final = 3600.0
LONGEST_QUIET_S: Final = 300.0


def run(place: Place, plan: Plan, _shape: str) -> Result:
    """Fill, send, cancel; measure ten rounds while it is swept, and ten after it."""
    # Releases before 0.3.0 have no campaigns.
    from smsq_worker.config.settings import Settings
    from smsq_worker.ledger.campaigns import Campaigns

    fresh(place, "cancel")
    empty = used_memory(place)
    filled = _fill(scaled(MESSAGES, plan))
    campaigns = Campaigns(place.client, Settings.load(place.environ).rules)
    place.start_workers(WORKERS)
    place.begin()
    until(time.monotonic() + SETTLE_S)
    with measuring(place) as measure:
        measure.begin()
        until(measure.began + plan.seconds)
        full = used_memory(place)
        commands = _commands(place)
        asked_at = time.monotonic()
        campaigns.do("cancel", CAMPAIGN)
        answered_at = time.monotonic()
        commands = _commands(place) - commands
        swept_at = _swept(place.client, answered_at)
        left = used_memory(place)
        until(swept_at + max(2 * plan.seconds, min(swept_at - answered_at, LONGEST_QUIET_S)))
        measure.end()
    late = _calls_after(place, answered_at)
    found = campaigns.read(CAMPAIGN)
    assert found is not None
    beside = _ratio(measure, asked_at, swept_at)
    told = (
        f"cancel: {1000 * (answered_at - asked_at):.1f} ms, some {commands} commands meanwhile",
        f"{late} calls after the answer, the last {_last(place, answered_at):.3f} s after it",
    )
    notes = (
        *told,
        f"swept in {swept_at - answered_at:.0f} s, to {dict(found.states)}",
        f"memory: {empty / 1e6:.0f} MB empty, {full / 1e6:.0f} full, {left / 1e6:.0f} swept",
        f"otps while it is swept / after it: {beside.middle:.2f} ({beside.interval()})",
    )
    live = sum(found.states.get(state, 0) for state in ("queued", "deferred", "sending"))
    goals = (
        Goal("otps beside the sweep, 95 % of the ratio", beside.high, MOST, "times"),
        Goal("messages of it that are live", live, 1, "of it"),
        Goal("memory after the sweep", left, full, "bytes"),
    )
    return result(measure, filled, *notes, goals=goals)


def _fill(count: int) -> Filled:
    began = time.monotonic()
    rows = ({"phone": phone(n), "template": TEMPLATE, "code": CODE} for n in range(count))
    smsq.send_many(rows, lane=Lane.BULK, batch_size=BATCH, campaign=CAMPAIGN)
    return Filled(count, -(-count // BATCH), time.monotonic() - began)


def _commands(place: Place) -> int:
    """Count the commands that scripts and clients have called; the otps' are among them."""
    info: Any = place.client.info("commandstats")
    return sum(one["calls"] for one in info.values())


def _swept(client: Client, since: float) -> float:
    while client.exists(keys.CAMPAIGN_SWEEP):
        assert time.monotonic() < since + LONGEST_S, "the sweep does not end"
        time.sleep(0.2)
    return time.monotonic()


def _calls_after(place: Place, moment: float) -> int:
    """Count the campaign's calls that came after a moment: those that were under way."""
    return len(_of_campaign(place, moment))


def _last(place: Place, moment: float) -> float:
    return max((at - moment for at in _of_campaign(place, moment)), default=0.0)


def _of_campaign(place: Place, moment: float) -> list[float]:
    first = phone(0)[:3]
    calls = place.gateway.calls()
    return [call.at for call in calls if call.at > moment and call.phone.startswith(first)]


def _ratio(measure: Measure, cancelled_at: float, swept_at: float) -> Ratio:
    """Compare the otps' medians, round by round. Before the cancel the rate makes them wait."""
    quiet = _rounds(measure, swept_at, measure.ended)
    return ratio(quiet, _rounds(measure, cancelled_at, swept_at))


def _rounds(measure: Measure, since: float, before: float) -> list[float]:
    """Give the medians of ten groups of otps, one after the other, as large as each other."""
    waits = measure.otps.waits(since, before)
    size = len(waits) // ROUNDS
    assert size, f"only {len(waits)} otps in {before - since:.0f} s: take a larger SIZE"
    return [median(waits[n * size : (n + 1) * size]) for n in range(ROUNDS)]
