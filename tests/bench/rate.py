"""The rate of any number of workers, with more to send than may be sent."""

from __future__ import annotations

from functools import partial

from bench.figures import Report, most_in_a_second, ms, parts, within
from bench.place import Place, until
from bench.plan import Plan
from bench.shapes import each, enqueue

BEFORE_S, AFTER_S = 2.0, 3.0


def run(place: Place, plan: Plan) -> Report:
    """Try each number of workers at each rate."""
    report = Report("rate")
    for rate in plan.rates:
        for workers in plan.workers:
            one = partial(_one, place, report, seconds=plan.seconds, workers=workers, rate=rate)
            each(place, plan, report, one)
    report.notes.append(
        "most/s: in any sliding second of the whole run, as the gateway sees it and as the ledger "
        "decided; the way: from the decision to the gateway, p50 / p99 / longest"
    )
    return report


def _one(
    place: Place, report: Report, shape: str, *, seconds: float, workers: int, rate: int
) -> None:
    place.fresh(f"rate-{rate}-{workers}-{shape}", SMSQ_RATE_PER_S=rate, SMSQ_RATE_BURST=1)
    ids = enqueue(int(rate * (seconds + 2 * (BEFORE_S + AFTER_S))), "notice", shape)
    place.start_workers(workers)
    place.gateway.clear()
    start = place.begin() + BEFORE_S
    end = start + seconds
    seen = place.watch_decisions(start)
    before = place.used()
    seen |= place.watch_decisions(end)
    after = place.used()
    until(end + AFTER_S)
    lag_s, left = place.gateway.lag_s(), place.left()
    calls = place.gateway.calls()
    measured = within(calls, start, end)
    achieved = len(measured) / seconds
    error = 100 * (achieved - rate) / rate
    most = most_in_a_second(call.at for call in calls)
    acts, cpu_s = after.acts - before.acts, after.worker_cpu_s - before.worker_cpu_s
    redis_s = after.redis_cpu_s - before.redis_cpu_s
    machine_s = after.machine_cpu_s - before.machine_cpu_s
    report.rows.append(
        {
            "workers": workers,
            "R": rate,
            "queued as": shape,
            "achieved/s": f"{achieved:.2f}",
            "error": f"{error:+.2f} %",
            "most/s": most,
            "decided": most_in_a_second(seen),
            "allowed": rate + 1,
            "cpu/message": ms(cpu_s / max(1, len(measured))),
            "workers' cpu": f"{100 * cpu_s / seconds:.0f} %",
            "redis cpu": f"{100 * redis_s / seconds:.0f} %",
            "machine's cpu": f"{100 * machine_s / seconds:.0f} %",
            "acts/message": f"{acts / max(1, len(measured)):.2f}",
            "the way": parts(place.ways(calls, ids)),
            "gateway's lag": ms(lag_s),
            "given back": place.given_back(),
            "errors": len(place.errors()),
        }
    )
    who = f"{workers} workers at {rate}/s, {shape}"
    report.promise(abs(error) <= 1, f"{who}: {error:+.2f} % off")
    report.promise(most <= rate + 1, f"{who}: {most} calls in a second")
    report.promise(left > 0, f"{who}: the backlog was too small to tell")
    report.promise(not place.errors(), f"{who}: {place.errors()[:3]}")
