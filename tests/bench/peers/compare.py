"""Everything that is compared, round by round, so that what disturbs meets all alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from bench.figures import Report, ms, part, table
from bench.peers import door, idle, ledger, venv
from bench.peers.drain import Contender, Drained, drain
from bench.peers.goals import Goal, judge
from bench.peers.usage import cpu_model
from bench.place import Place, own_throughput
from bench.plan import Plan

ROUNDS: Final = 3
LATENCIES_S: Final = (0.0, 0.1)
SLOW_S: Final = 0.1
"""The latency for which there are goals."""
SAME: Final = 1.2
"""What differs by less is the same: figures of one machine differ so from hour to hour."""
GATEWAY_AT_MOST: Final = 0.7
"""Of one core. A gateway busier than that is measured itself."""

SINGLE, BULK = "smsq", "smsq, bulk"
CELERY, TASKIQ = "celery, requests.get", "taskiq, aiohttp"

Figures = dict[tuple[str, float], list[Drained]]


def run(place: Place, plan: Plan) -> Report:
    """Measure all contenders, then what is ours alone."""
    report = Report("peers")
    contenders = _contenders(venv.python())
    capacity = own_throughput(place.gateway, connections=64)
    figures = _rounds(place, contenders, max(1, plan.messages // ROUNDS))
    for (name, latency_s), drained in figures.items():
        report.rows.append(_row(name, latency_s, drained, capacity))
        busy = sum(one.gateway_s for one in drained) / sum(one.seconds for one in drained)
        who = f"{name} at {ms(latency_s)}"
        report.promise(busy < GATEWAY_AT_MOST, f"{who}: the gateway itself was {busy:.0%} busy")
    rates = {one.name: _enqueued(figures, one.name) for one in contenders}
    report.notes += [
        f"{cpu_model()}; {venv.versions()}",
        *(f"{one.name}: {one.says}" for one in contenders),
        f"the gateway takes {capacity:.0f} calls/s by raw connections; nobody logs single messages",
        _enqueue_table(rates),
    ]
    goals = [
        _cpu_goal(figures, BULK, TASKIQ),
        _cpu_goal(figures, SINGLE, CELERY),
        Goal("send_many, of delay()'s rate", rates[BULK] / rates[SINGLE], 10, "x", at_least=True),
    ]
    judge(goals + _ours(place, report), report)
    return report


def _rounds(place: Place, contenders: list[Contender], messages: int) -> Figures:
    """Let all take their turns; in each round another one begins."""
    figures: Figures = {(one.name, at): [] for at in LATENCIES_S for one in contenders}
    for n in range(ROUNDS):
        for latency_s in LATENCIES_S:
            for one in contenders[n:] + contenders[:n]:
                figures[one.name, latency_s].append(drain(place, one, latency_s, messages))
    return figures


def _contenders(peer: str) -> list[Contender]:
    """Give all, one worker process each; the peers with 64 calls at a time."""
    here = [
        Contender(SINGLE, "ours_single", "its default of 48 threads"),
        Contender(BULK, "ours_bulk", "the same worker; send_many, lane bulk"),
    ]
    theirs = [
        Contender(CELERY, "naive_celery", "64 threads (its default: a process per core)"),
        Contender("dramatiq, requests", "dramatiq_requests", "64 threads (its default: 2 x 8)"),
        Contender(TASKIQ, "taskiq_aiohttp", "64 coroutines (its default: 2 x 100)"),
        Contender("huey, requests", "huey_requests", "64 threads (its default: 1)"),
    ]
    return here + [replace(one, python=peer, database=n) for n, one in enumerate(theirs, 1)]


def _cpu(drained: list[Drained]) -> float:
    """Give the seconds of the workers' processor time per message."""
    return sum(one.worker_s for one in drained) / sum(one.messages for one in drained)


def _row(name: str, latency_s: float, drained: list[Drained], capacity: float) -> dict[str, Any]:
    messages, seconds = sum(one.messages for one in drained), sum(one.seconds for one in drained)
    rounds = sorted(_cpu([one]) for one in drained)
    return {
        "worker": name,
        "latency": f"{latency_s * 1000:.0f} ms",
        "messages": messages,
        "cpu/message": f"{_cpu(drained) * 1000:.2f} ms",
        "rounds": f"{rounds[0] * 1000:.2f} - {rounds[-1] * 1000:.2f}",
        "messages/s": f"{messages / seconds:.0f}",
        "redis/message": f"{sum(one.redis_s for one in drained) / messages * 1000:.2f} ms",
        "gateway's cpu": f"{sum(one.gateway_s for one in drained) / seconds:.0%}",
        "of what it takes": f"{messages / seconds / capacity:.0%}",
    }


def _enqueued(figures: Figures, name: str) -> float:
    """Give messages a second, over all rounds."""
    rates = [one.enqueued_per_s for latency_s in LATENCIES_S for one in figures[name, latency_s]]
    return len(rates) / sum(1 / rate for rate in rates)


def _enqueue_table(rates: dict[str, float]) -> str:
    return table(
        [
            {
                "enqueue": name,
                "messages/s": f"{rate:.0f}",
                "of delay()": f"{rate / rates[SINGLE]:.2f} x",
            }
            for name, rate in rates.items()
        ]
    )


def _cpu_goal(figures: Figures, ours: str, peer: str) -> Goal:
    ours_ms, peers_ms = (_cpu(figures[name, SLOW_S]) * 1000 for name in (ours, peer))
    return Goal(f"{ours}: cpu/message at 100 ms, of {peer}", ours_ms, peers_ms, "ms")


def _ours(place: Place, report: Report) -> list[Goal]:
    """Measure what no peer has; give its goals."""
    took = idle.measure(place)
    costs = ledger.measure(place)
    taken = door.measure(place)
    report.notes += [
        table(costs.rows),
        f"idle, delay() to call: p50 {ms(part(took, 50))}, p99 {ms(part(took, 99))}",
        f"door: {taken.per_s:.0f} reports/s; on its core {taken.door_cpu:.0%}, the client "
        f"{taken.client_cpu:.0%}, redis {taken.redis_cpu:.0%} of a core; "
        + ("the door has a core of its own" if taken.pinned else "no core of its own"),
    ]
    return [
        Goal("ledger: bytes per delivered message", costs.bytes_plain, 400, "bytes"),
        Goal("the same, encrypted", costs.bytes_sealed, 400, "bytes"),
        Goal("admit and record at 1 M messages, of 1 k", costs.growth, SAME, "x"),
        Goal("door: reports/s on one core", taken.per_s, 1500, "/s", at_least=True),
    ]
