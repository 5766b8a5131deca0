"""A gateway that fails for ten minutes; all times that matter to it can be scaled.

The rate is not scaled. So the breaker's window holds fewer calls here than in earnest: SCALE=1
shows it as it is.
"""

from __future__ import annotations

import time
from functools import partial

from bench.figures import Arrival, Report, most_in_a_second, ms
from bench.place import Place, until
from bench.plan import Plan
from bench.shapes import each, enqueue

RATE = 20
WORKERS = 2
AT_MOST = 100
OUTAGE_S = 600.0
WINDOW_S = 60.0
WELL_FOR_S = 1.2 * WINDOW_S
MORE_S = 1.5 * WINDOW_S
"""So many seconds' worth of messages are still to be sent when the outage begins."""
CATCH_UP_S = 240.0


def scaled(scale: float) -> dict[str, object]:
    """Give the settings of which the time is scaled."""
    return {
        "SMSQ_PROBE_S": 30 / scale,
        "SMSQ_BREAKER": f"10/50/{WINDOW_S / scale:.0f}",
        "SMSQ_RETRY_FIRST_S": 2 / scale,
        "SMSQ_RETRY_MAX_S": 300 / scale,
        "SMSQ_CONNECT_TIMEOUT_S": 3 / scale,
        "SMSQ_READ_TIMEOUT_S": 10 / scale,
    }


def run(place: Place, plan: Plan) -> Report:
    """Fail in several ways, one after the other."""
    report = Report("outage")
    for mode in plan.modes:
        each(place, plan, report, partial(_one, place, report, mode, scale=plan.scale))
    report.notes.append(
        "doubled: messages that the gateway accepted twice; resends: attempts that may be doubles "
        "and count against SMSQ_MAX_RESENDS; after a 503 the rate comes back step by step"
    )
    return report


def _one(place: Place, report: Report, mode: str, shape: str, *, scale: float) -> None:
    settings = scaled(scale)
    place.fresh(f"outage-{mode}-{shape}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1, **settings)
    ids = enqueue(int(RATE * (WELL_FOR_S + MORE_S) / scale), "notice", shape)
    place.start_workers(WORKERS)
    until(place.begin() + WELL_FOR_S / scale)
    fails = place.gateway.set(mode=mode)
    opened = _opened(place, fails + OUTAGE_S / scale)
    until(fails + OUTAGE_S / scale)
    returns = place.gateway.set(mode="ok")
    calls = _settled(place, set(ids), time.monotonic() + CATCH_UP_S)
    good = [call for call in calls if call.mode == "ok"]
    bad = [call for call in calls if call.mode != "ok"]
    after = [call.at for call in good if call.at >= returns]
    missing = set(ids) - {call.phone for call in good}
    failed, most = place.count("failed"), most_in_a_second(call.at for call in calls)
    resends = place.ledger.counters().get("possible_duplicates", 0)
    doubtful = 0 if mode == "503" else len(bad)
    report.rows.append(
        {
            "mode": mode,
            "queued as": shape,
            "outage": f"{OUTAGE_S / scale:.0f} s",
            "messages": len(ids),
            "opened after": ms(opened - fails) if opened else "never",
            "calls in it": len(bad),
            "failed": failed,
            "expired": place.count("expired"),
            "resends": resends,
            "first success after": ms(after[0] - returns) if after else "never",
            "all after": ms(after[-1] - returns) if after else "never",
            "most/s in catch-up": most_in_a_second(after),
            "most/s at all": most,
            "missing": len(missing),
            "doubled": len(good) - len({call.phone for call in good}),
            "alerts": len(place.alerts()),
            "given back": place.given_back(),
            "errors": len(place.errors()),
        }
    )
    who = f"{mode}, {shape}"
    report.promise(len(bad) < AT_MOST, f"{who}: {len(bad)} calls in the outage")
    report.promise(resends <= doubtful, f"{who}: {resends} resends after {doubtful} doubtful calls")
    report.promise(not failed, f"{who}: {failed} messages failed")
    report.promise(not missing, f"{who}: {len(missing)} messages were not sent")
    report.promise(most <= RATE + 1, f"{who}: {most} calls in a second")
    report.promise(not place.errors(), f"{who}: {place.errors()[:3]}")


def _opened(place: Place, end: float) -> float | None:
    """Wait until the breaker is open; give the time."""
    while time.monotonic() < end:
        if place.control.pauses():
            return time.monotonic()
        time.sleep(0.02)
    return None


def _settled(place: Place, phones: set[str], deadline: float) -> list[Arrival]:
    """Wait until every number has been sent to, but not for ever."""
    while time.monotonic() < deadline:
        calls = place.gateway.calls()
        if phones <= {call.phone for call in calls if call.mode == "ok"}:
            return calls
        time.sleep(0.2)
    return place.gateway.calls()
