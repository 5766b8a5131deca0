"""A gateway that fails for ten minutes, a tenth as long here as are all times that matter to it."""

from __future__ import annotations

import time

from bench.figures import Arrival, Report, most_in_a_second, ms
from bench.place import Place, until
from bench.plan import Plan

RATE = 20
MESSAGES = 300
WORKERS = 2
AT_MOST = 100
WELL_FOR_S = 3.0
CATCH_UP_S = 240.0
SCALED = {  # by ten; the rate is not, which makes it harder: more calls before the breaker opens
    "SMSQ_PROBE_S": 3,
    "SMSQ_BREAKER": "10/50/6",
    "SMSQ_RETRY_FIRST_S": 0.2,
    "SMSQ_RETRY_MAX_S": 30,
    "SMSQ_CONNECT_TIMEOUT_S": 0.3,
    "SMSQ_READ_TIMEOUT_S": 1,
    "SMSQ_LEASE_S": 6,
}


def run(place: Place, plan: Plan) -> Report:
    """Fail in three ways, one after the other."""
    report = Report("outage")
    for mode in ("500", "503", "silent"):
        _one(place, mode, 2 * plan.seconds, report)
    report.notes.append(
        "doubled: messages that the gateway accepted twice; used up: attempts that count against "
        "SMSQ_MAX_RESENDS; after a 503 the rate comes back step by step"
    )
    return report


def _one(place: Place, mode: str, seconds: float, report: Report) -> None:
    place.fresh(f"outage-{mode}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1, **SCALED)
    ids = place.enqueue(MESSAGES, "notice")
    place.start_workers(WORKERS)
    until(place.begin() + WELL_FOR_S)
    fails = place.gateway.set(mode=mode)
    until(fails + seconds)
    returns = place.gateway.set(mode="ok")
    calls = _settled(place, set(ids), time.monotonic() + CATCH_UP_S)
    good = [call for call in calls if call.mode == "ok"]
    bad = [call for call in calls if call.mode != "ok"]
    after = [call.at for call in good if call.at >= returns]
    missing = set(ids) - {call.phone for call in good}
    failed, most = place.count("failed"), most_in_a_second(call.at for call in calls)
    report.rows.append(
        {
            "mode": mode,
            "outage": f"{seconds:.0f} s",
            "calls in it": len(bad),
            "failed": failed,
            "expired": place.count("expired"),
            "used up": place.ledger.counters().get("possible_duplicates", 0),
            "first success after": ms(after[0] - returns) if after else "never",
            "all after": ms(after[-1] - returns) if after else "never",
            "most/s in catch-up": most_in_a_second(after),
            "most/s at all": most,
            "missing": len(missing),
            "doubled": len(good) - len({call.phone for call in good}),
            "opened": len(place.log_lines(": paused breaker")),
            "errors": len(place.errors()),
        }
    )
    report.promise(len(bad) < AT_MOST, f"{mode}: {len(bad)} calls in the outage")
    report.promise(not failed, f"{mode}: {failed} messages failed")
    report.promise(not missing, f"{mode}: {len(missing)} messages were not sent")
    report.promise(most <= RATE + 1, f"{mode}: {most} calls in a second")
    report.promise(not place.errors(), f"{mode}: {place.errors()[:3]}")
    place.stop_workers()


def _settled(place: Place, phones: set[str], deadline: float) -> list[Arrival]:
    """Wait until every number has been sent to, but not for ever."""
    while time.monotonic() < deadline:
        calls = place.gateway.calls()
        if phones <= {call.phone for call in calls if call.mode == "ok"}:
            return calls
        time.sleep(0.2)
    return place.gateway.calls()
