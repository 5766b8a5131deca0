"""An otp now and then, behind a long backlog of bulk, with one ordinary worker."""

from __future__ import annotations

import time

from bench.figures import Arrival, Report, most_in_a_second, ms, part, within
from bench.place import Place, until
from bench.plan import Plan
from bench.shapes import each, enqueue
from harness.waiting import eventually

RATE = 10
EVERY_S = 2.0
SETTLE_S = 3.0
PROMISED_S = 1.0
FIRST_OTP = 90_000_000


def run(place: Place, plan: Plan) -> Report:
    """Try each shape of the backlog."""
    report = Report("otp")
    return each(place, plan, report, lambda shape: _one(place, plan, shape, report))


def _one(place: Place, plan: Plan, shape: str, report: Report) -> None:
    """Measure from before the call of `delay` to the arrival at the gateway."""
    place.fresh(f"otp-{shape}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1)
    enqueue(plan.backlog, "bulk", shape)
    place.start_workers(1)
    start = place.begin() + SETTLE_S
    enqueued, done = dict[str, float](), list[float]()
    for n in range(int(2 * plan.seconds / EVERY_S)):
        until(start + n * EVERY_S)
        before = time.monotonic()
        (phone,) = place.enqueue(1, "otp", FIRST_OTP + n)
        enqueued[phone] = before
        done.append(time.monotonic() - before)
    end = start + 2 * plan.seconds
    until(end)
    lag_s = place.gateway.lag_s()
    arrived = eventually(lambda: _all(place.gateway.calls(), enqueued))
    calls = place.gateway.calls()
    waits = [arrived[phone].at - before for phone, before in enqueued.items()]
    bulk = [call for call in within(calls, start, end) if call.phone not in enqueued]
    most = most_in_a_second(call.at for call in calls)
    report.rows.append(
        {
            "bulk queued as": shape,
            "otp sent": len(waits),
            "of which delay() took, p50 / longest": f"{ms(part(done, 50))} / {ms(max(done))}",
            "enqueue to gateway, p50": ms(part(waits, 50)),
            "enqueue to gateway, p99": ms(part(waits, 99)),
            "enqueue to gateway, longest": ms(max(waits)),
            "bulk's share of the rate": f"{100 * len(bulk) / (RATE * (end - start)):.1f} %",
            "all calls/s": f"{len(within(calls, start, end)) / (end - start):.2f} of {RATE}",
            "most/s": f"{most} of {RATE + 1}",
            "gateway's lag": ms(lag_s),
            "given back": place.given_back(),
            "errors": len(place.errors()),
        }
    )
    report.promise(part(waits, 99) <= PROMISED_S, f"{shape}: p99 is {ms(part(waits, 99))}")
    report.promise(most <= RATE + 1, f"{shape}: {most} calls in a second")
    report.promise(place.left() > 0, f"{shape}: the backlog was too small to tell")
    report.promise(not place.errors(), f"{shape}: {place.errors()[:3]}")


def _all(calls: list[Arrival], wanted: dict[str, float]) -> dict[str, Arrival]:
    found = {call.phone: call for call in reversed(calls) if call.phone in wanted}
    return found if len(found) == len(wanted) else {}
