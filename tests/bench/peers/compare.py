"""Everything that is compared, round by round, so that what disturbs meets all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.figures import Report, Spread, ms, part, spread, table
from bench.peers import door, idle, ledger, venv
from bench.peers.contenders import BULK, DRAMATIQ, SINGLE, TASKIQ, before, contenders
from bench.peers.drain import Contender, Drained, drain
from bench.peers.goals import Goal, judge
from bench.peers.published import Figures, publish
from bench.peers.usage import cpu_model
from bench.place import Place, own_throughput
from bench.plan import Plan

LATENCIES_S: Final = (0.0, 0.1)
SLOW_S: Final = 0.1
"""The latency for which there are goals."""
SAME: Final = 1.2
"""What differs by less is the same: figures of one machine differ so from hour to hour."""
GATEWAY_AT_MOST: Final = 0.7
"""Of one core. A gateway busier than that is measured itself."""

Rounds = dict[tuple[str, float], list[Drained]]


def run(place: Place, plan: Plan) -> Report:
    """Measure all contenders, then what is ours alone."""
    report = Report("peers")
    all_ = contenders(venv.python(), plan.against)
    capacity = own_throughput(place.gateway, connections=64)
    rounds = _rounds(place, all_, plan)
    report.rows += [_row(name, at, drained, capacity) for (name, at), drained in rounds.items()]
    for (name, at), drained in rounds.items():
        busy = sum(one.gateway_s for one in drained) / sum(one.seconds for one in drained)
        who = f"{name} at {ms(at)}"
        report.promise(busy < GATEWAY_AT_MOST, f"{who}: the gateway itself was {busy:.0%} busy")
    figures = [_figures(rounds, one.name) for one in all_]
    about = f"{cpu_model()}; {venv.versions()}"
    report.notes += [
        about,
        *(f"{one.name}: {one.says}" for one in all_),
        "smsq logs every message, the others none (streaQ cannot be told not to)",
        f"the gateway takes {capacity:.0f} calls/s by raw connections",
        _table(figures),
    ]
    judge(_goals(figures, plan.against) + _ours(place, report), report)
    if plan.chart:
        publish(figures, about=about, rounds=plan.rounds, messages=_messages(plan))
        report.notes.append("the docs have these figures now")
    return report


def _messages(plan: Plan) -> int:
    return max(1, plan.messages // 3)


def _rounds(place: Place, all_: Sequence[Contender], plan: Plan) -> Rounds:
    """Let all take their turns; in each round another one begins."""
    figures: Rounds = {(one.name, at): [] for one in all_ for at in LATENCIES_S}
    for n in range(plan.rounds):
        # A new server, whose file is not rewritten while something is measured.
        place.server.renew()
        place.fresh("peers")
        place.client.config_set("auto-aof-rewrite-percentage", 0)
        first = n % len(all_)
        for at in LATENCIES_S:
            for one in (*all_[first:], *all_[:first]):
                figures[one.name, at].append(drain(place, one, at, _messages(plan)))
    return figures


def worker_ms(one: Drained) -> float:
    """Give the workers' processor time a message."""
    return one.worker_s / one.messages * 1000


def redis_ms(one: Drained) -> float:
    """Give Redis' processor time a message."""
    return one.redis_s / one.messages * 1000


def per_s(one: Drained) -> float:
    """Give how many messages a second the worker sent."""
    return one.messages / one.seconds


def _figures(rounds: Rounds, name: str) -> Figures:
    fast, slow = (rounds[name, at] for at in LATENCIES_S)
    return Figures(
        name,
        cpu_fast=spread(map(worker_ms, fast)),
        cpu_slow=spread(map(worker_ms, slow)),
        per_s=spread(map(per_s, slow)),
        redis=spread(map(redis_ms, slow)),
        enqueued_per_s=spread(one.enqueued_per_s for one in fast + slow),
    )


def _row(name: str, latency_s: float, drained: list[Drained], capacity: float) -> dict[str, Any]:
    messages, seconds = sum(one.messages for one in drained), sum(one.seconds for one in drained)
    return {
        "worker": name,
        "latency": f"{latency_s * 1000:.0f} ms",
        "messages": messages,
        "cpu ms/message": spread(map(worker_ms, drained)).text(),
        "messages/s": spread(map(per_s, drained)).text(0),
        "redis ms/message": spread(map(redis_ms, drained)).text(3),
        "gateway's cpu": f"{sum(one.gateway_s for one in drained) / seconds:.0%}",
        "of what it takes": f"{messages / seconds / capacity:.0%}",
    }


def _table(figures: Sequence[Figures]) -> str:
    single = figures[0].enqueued_per_s.median
    return table(
        [
            {
                "enqueue": one.name,
                "messages/s": one.enqueued_per_s.text(0),
                "of delay()": f"{one.enqueued_per_s.median / single:.2f} x",
            }
            for one in figures
        ]
    )


def _goals(figures: Sequence[Figures], release: str) -> list[Goal]:
    """Give the ratios of medians that are to be reached."""
    of = {one.name: one for one in figures}
    single, bulk, taskiq = of[SINGLE], of[BULK], of[TASKIQ]
    dramatiq, old = of[DRAMATIQ], of[before(release)]

    def cheaper(ours: Figures, theirs: Figures, bound: float, wish: float) -> Goal:
        told = f"{ours.name}: worker's cpu a message at 100 ms, of {theirs.name}"
        value = ours.cpu_slow.median / theirs.cpu_slow.median
        return Goal(told, value, bound, "x", wish=wish)

    def faster(what: str, ours: Spread, theirs: Spread, bound: float) -> Goal:
        return Goal(what, ours.median / theirs.median, bound, "x", at_least=True)

    told = f"{SINGLE}: messages/s of a worker at 100 ms, of {TASKIQ}"
    ours = single.enqueued_per_s
    return [
        cheaper(single, taskiq, 0.9, 0.6),
        cheaper(single, dramatiq, 0.45, 0.3),
        cheaper(bulk, taskiq, 0.85, 0.6),
        faster(told, single.per_s, taskiq.per_s, 1.7),
        faster(f"delay()/s, of {DRAMATIQ}", ours, dramatiq.enqueued_per_s, 0.8),
        faster(f"delay()/s, of {old.name}", ours, old.enqueued_per_s, 3),
    ]


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
