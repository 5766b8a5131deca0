"""What it costs a worker that Flower watches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from bench.figures import Report, spread
from bench.peers.drain import Contender, Drained, drain
from bench.peers.goals import Goal, judge
from bench.place import Place
from bench.plan import Plan

LATENCY_S: Final = 0.1
MORE_AT_MOST: Final = 1.3
ALONE: Final = Contender("alone", "ours_single", "")
WATCHED: Final = replace(ALONE, name="watched", module="ours_watched", is_watched=True)


def run(place: Place, plan: Plan) -> Report:
    """Take turns, with Flower and without."""
    report, messages = Report("watched"), max(1, plan.messages // 3)
    drained: dict[str, list[Drained]] = {one.name: [] for one in (ALONE, WATCHED)}
    published = dict.fromkeys(drained, 0)
    for n in range(plan.rounds):
        for one in (ALONE, WATCHED) if n % 2 else (WATCHED, ALONE):
            before = _published(place)
            drained[one.name].append(drain(place, one, LATENCY_S, messages))
            published[one.name] += _published(place) - before
    for name, rounds in drained.items():
        report.rows.append(
            {
                "worker": name,
                "cpu ms/message": spread(map(_worker_ms, rounds)).text(),
                "redis ms/message": spread(
                    one.redis_s / one.messages * 1000 for one in rounds
                ).text(3),
                "messages/s": spread(one.messages / one.seconds for one in rounds).text(0),
            }
        )
    report.notes.append(f"published: {published}")
    report.promise(published["watched"] > published["alone"], "the worker told Flower nothing")
    alone, watched = (spread(map(_worker_ms, rounds)).median for rounds in drained.values())
    told = "worker's cpu a message with Flower, of without"
    judge([Goal(told, watched / alone, MORE_AT_MOST, "x")], report)
    return report


def _worker_ms(one: Drained) -> float:
    return one.worker_s / one.messages * 1000


def _published(place: Place) -> int:
    stats: Any = place.client.info("commandstats")
    return int(stats.get("cmdstat_publish", {}).get("calls", 0))
