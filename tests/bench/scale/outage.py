"""The gateway fails for ten minutes while 100,000 messages are queued."""

from __future__ import annotations

import time

from bench import outage
from bench.figures import ms
from bench.peers.goals import Goal
from bench.place import Place, until
from bench.plan import Plan
from bench.scale.fill import queue
from bench.scale.measure import RATE, measuring
from bench.scale.queues import waiting
from bench.scale.result import SETTLE_S, WORKERS, Result, fresh, result, scaled
from smsq.contract import Lane

MESSAGES = 100_000
PROBES_AT_MOST = 2
PROBES_AWAITED = 8
"""If none heals it by then, an otp is sent, which does at once."""


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Fail, then work; nothing else is sent until a probe lets sending go on."""
    settings = outage.scaled(plan.scale)
    probe_s = float(str(settings["SMSQ_PROBE_S"]))
    fresh(place, f"outage-{shape}", **settings)
    count = max(scaled(MESSAGES, plan), int(RATE * (4 * plan.seconds + 60)))
    filled = queue(count, Lane.BULK, shape)
    place.start_workers(WORKERS)
    until(place.begin() + SETTLE_S)
    place.gateway.set(mode="500")
    began = time.monotonic()
    opened = _opened(place, began + outage.OUTAGE_S / plan.scale)
    until(began + outage.OUTAGE_S / plan.scale)
    calls, live, queues = place.gateway.calls(), place.control.live(), waiting(place)
    sending = sum(n for name, n in live.items() if name.endswith(":sending"))
    bad = [call for call in calls if call.mode != "ok"]
    returns = place.gateway.set(mode="ok")
    healed = _first_after(place, returns, returns + PROBES_AWAITED * probe_s)
    with measuring(place) as measure:
        until(time.monotonic() + SETTLE_S)
        measure.begin()
        until(measure.began + 2 * plan.seconds)
        measure.end()
    probes = (healed - returns) / probe_s
    doubts = place.ledger.counters().get("calls:maybe_sent", 0) - len(bad)
    return result(
        measure,
        filled,
        f"opened {ms(opened - began)} after the first failure, {len(bad)} calls in it, of which "
        f"{sum(call.at > opened + 1 for call in bad)} probes; at its end {sending} in `sending`",
        f"at its end {queues.wakeups} wake-ups named {queues.names} messages, {queues.messages} "
        f"different ones, of {filled.messages} queued by {filled.wakeups} wake-ups",
        f"first call {ms(healed - returns)} after the gateway worked, {probes:.1f} probes' times "
        f"(one each {probe_s:.0f} s); {max(0, doubts)} doubts without a call",
        goals=[
            Goal("recovery", probes, PROBES_AT_MOST, "probes"),
            Goal("in the outage the queues name", queues.names, queues.messages, "of different"),
            Goal("in `sending` at the outage's end", sending, 1, "messages"),
        ],
    )


def _opened(place: Place, end: float) -> float:
    """Wait until the breaker is open; give the time."""
    while not place.control.pauses():
        assert time.monotonic() < end, "the breaker did not open"
        time.sleep(0.02)
    return time.monotonic()


def _first_after(place: Place, returns: float, end: float) -> float:
    """Give when the first call came after the gateway worked again; infinite where none did."""
    seen = len(place.gateway.calls())
    while time.monotonic() < end:
        later = [call.at for call in place.gateway.calls(max(0, seen - 1))]
        if any(at >= returns for at in later):
            return min(at for at in later if at >= returns)
        time.sleep(0.05)
    return float("inf")
