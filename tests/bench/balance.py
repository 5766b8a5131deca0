"""A report says that the account is empty; a probe's report later says that it is not."""

from __future__ import annotations

import time

from bench.figures import Arrival, Report, most_in_a_second, ms
from bench.place import Place, until
from bench.plan import Plan
from bench.shapes import each, enqueue
from smsq.app import app
from smsq.contract import RECONCILE_REPORT, REPORT_QUEUE

RATE = 50
WORKERS = 4
PROBE_S = 3
PATIENCE_S = 30.0
SECONDS = 60
SETTLE_S = 4.0
PROMISED_S = 1.0


def run(place: Place, plan: Plan) -> Report:
    """Try each shape of the queue."""
    report = Report("balance")
    return each(place, plan, report, lambda shape: _one(place, shape, report))


def _one(place: Place, shape: str, report: Report) -> None:
    """Pause by a report, heal by another."""
    place.fresh(f"balance-{shape}", SMSQ_RATE_PER_S=RATE, SMSQ_RATE_BURST=1, SMSQ_PROBE_S=PROBE_S)
    enqueue(RATE * SECONDS, "notice", shape)
    place.start_workers(WORKERS)
    until(place.begin() + SETTLE_S)
    told = _report(place.gateway.calls()[0].mid, "MA:0015")
    until(told + PROBE_S * 0.8)
    calls = place.gateway.calls()
    last = max(call.at for call in calls)
    late = [call for call in calls if call.at >= told]
    paused = [pause.scope for pause in place.control.pauses()]
    while not (probes_seen := place.gateway.calls(len(calls))):
        assert time.monotonic() < told + PATIENCE_S, f"no probe within {PATIENCE_S:.0f} s"
        time.sleep(0.02)
    probe = probes_seen[0]
    time.sleep(0.5)  # its answer is on the way, and must be recorded before its report counts
    probes = len(place.gateway.calls(len(calls)))
    healed = _report(probe.mid, "DELIVRD")
    until(healed + SETTLE_S)
    after = [call for call in place.gateway.calls() if call.at >= healed]
    report.rows.append(
        {
            "queued as": shape,
            "calls after the report": len(late),
            "last call after the report": ms(max(0.0, last - told)),
            "by worker": _by_worker(late, told, latest=True),
            "paused": paused,
            "probe": f"{ms(probe.at - told)} after the report, {probes} in all",
            "first call after the probe's report": ms(after[0].at - healed) if after else "never",
            "all go on": _by_worker(after, healed, latest=False),
            "rate then": f"{len(after) / SETTLE_S:.1f}/s over {SETTLE_S:.0f} s of {RATE}",
            "most/s": f"{most_in_a_second(c.at for c in place.gateway.calls())} of {RATE + 1}",
            "alerts in the workers' logs": len(place.alerts()),
            "given back": place.given_back(),
            "errors": len(place.errors()),
        }
    )
    report.promise(last - told < PROMISED_S, f"{shape}: the last call came {ms(last - told)} after")
    report.promise(probes == 1, f"{shape}: {probes} probes")
    report.promise(
        len({call.worker for call in after}) == WORKERS, f"{shape}: not all workers go on"
    )
    report.promise(not place.errors(), f"{shape}: {place.errors()[:3]}")


def _report(mid: str, stat: str) -> float:
    """Let a report be reconciled, as the API does; give the time before."""
    before = time.monotonic()
    app.send_task(RECONCILE_REPORT, (mid, stat), queue=REPORT_QUEUE, ignore_result=True)
    return before


def _by_worker(calls: list[Arrival], since: float, *, latest: bool) -> dict[str, str]:
    """Say when each worker called first, or last."""
    times = {c.worker: c.at for c in (calls if latest else reversed(calls))}
    return {worker: ms(at - since) for worker, at in sorted(times.items())}
