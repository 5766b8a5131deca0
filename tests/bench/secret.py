"""A wrong AppSecret with a long queue; then the right one, and the rate raised at run time."""

from __future__ import annotations

import time

from bench.figures import Arrival, Report, most_in_a_second, ms
from bench.place import Place, until
from bench.plan import Plan
from bench.product import ACCOUNT
from bench.shapes import each, enqueue
from harness.waiting import eventually

RATE, RAISED = 200, 1000
WORKERS = 4
PROBE_S = 3
AT_MOST = 50
PROBES_WATCHED = 4
CATCH_UP_S = 400.0
LOOK_S = 0.25


def run(place: Place, plan: Plan) -> Report:
    """Try each shape of the queue."""
    report = Report("secret")
    return each(place, plan, report, lambda shape: _one(place, plan, shape, report))


def _one(place: Place, plan: Plan, shape: str, report: Report) -> None:
    """Refuse everything, then resume."""
    messages = plan.backlog // 2
    place.fresh(f"secret-{shape}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1, SMSQ_PROBE_S=PROBE_S)
    ids = enqueue(messages, "notice", shape)
    place.start_workers(WORKERS)
    place.gateway.set(mode="400")
    began = place.begin()
    eventually(place.control.pauses)
    paused = time.monotonic()
    until(paused + 1)
    burnt = len(place.gateway.calls())
    until(paused + PROBES_WATCHED * PROBE_S)
    refused, failed = len(place.gateway.calls()), place.count("failed")
    scopes = [pause.scope for pause in place.control.pauses()]
    alerts = place.alerts()
    place.gateway.set(mode="ok")
    resumed = time.monotonic()
    place.control.resume(ACCOUNT, "the secret is right")
    until(resumed + 5)
    before = [call.at for call in place.gateway.calls() if call.at >= resumed]
    raised = time.monotonic()
    place.control.set_rate(RAISED, 1)
    calls = _settled(place, messages - failed, time.monotonic() + CATCH_UP_S)
    good = [call for call in calls if call.mode == "ok"]
    missing = len(ids) - failed - len({call.phone for call in good})
    after = [call.at for call in good if call.at >= raised]
    report.rows.append(
        {
            "queued as": shape,
            "queued": messages,
            "calls before the pause, and in flight": burnt,
            "messages failed": failed,
            "paused": f"{scopes} {ms(paused - began)} after the first call",
            "alerts in the workers' logs": len(alerts),
            "calls while paused": f"{refused - burnt} in {PROBES_WATCHED * PROBE_S - 1} s, "
            f"a probe each {PROBE_S} s",
            "first call after resume": ms(good[0].at - resumed) if good else "never",
            "workers calling after resume": _all_called(good, resumed),
            "most/s before the rate was raised": f"{most_in_a_second(before)} of {RATE + 1}",
            f"rate raised to {RAISED}: seen after": _seen(after, raised),
            "workers' calls in the second after": _shares(good, raised),
            "rate reached": f"{len(after) / (after[-1] - raised):.0f}/s" if after else "none",
            "all sent": f"{ms(calls[-1].at - resumed)} after resume, {missing} missing",
            "doubled": len(good) - len({call.phone for call in good}),
            "given back": place.given_back(),
            "errors": len(place.errors()),
        }
    )
    report.promise(failed <= AT_MOST, f"{shape}: {failed} messages failed")
    probes = refused - burnt
    report.promise(probes >= PROBES_WATCHED - 2, f"{shape}: {probes} probes departed")
    report.promise(scopes == [ACCOUNT], f"{shape}: paused are {scopes}")
    report.promise(len(alerts) == 1, f"{shape}: {len(alerts)} alerts")
    report.promise(not missing, f"{shape}: {missing} messages were not sent")
    report.promise(not place.errors(), f"{shape}: {place.errors()[:3]}")


def _settled(place: Place, count: int, deadline: float) -> list[Arrival]:
    calls = place.gateway.calls()
    while time.monotonic() < deadline:
        calls += place.gateway.calls(len(calls))
        if len({call.phone for call in calls if call.mode == "ok"}) >= count:
            break
        time.sleep(0.5)
    return calls


def _all_called(calls: list[Arrival], since: float) -> str:
    """Say when the last of the workers called first."""
    first = {call.worker: call.at for call in reversed(calls) if call.at >= since}
    return f"{len(first)}, the last after {ms(max(first.values(), default=since) - since)}"


def _seen(times: list[float], raised: float) -> str:
    """Say when more came in a short while than the old rate allows."""
    allowed = RATE * LOOK_S + 2
    for n, at in enumerate(times):
        if sum(at <= later < at + LOOK_S for later in times[n : n + int(2 * allowed)]) > allowed:
            return ms(max(0.0, at - raised))
    return "never: the machine is not faster than the old rate"


def _shares(calls: list[Arrival], raised: float) -> dict[str, int]:
    shares = dict[str, int]()
    for call in calls:
        if raised <= call.at < raised + 1:
            shares[call.worker] = shares.get(call.worker, 0) + 1
    return dict(sorted(shares.items()))
