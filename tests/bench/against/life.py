"""What a message costs Redis in its whole life: delay(), the attempt, and the report."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import requests

from bench.figures import Report, spread
from bench.peers.drain import UNLIMITED, Contender, enqueue
from bench.peers.goals import Goal, judge
from bench.place import Place, Used
from bench.plan import Plan
from bench.product import ACCOUNT, api_service, free_port
from bench.tree import THIS, Tree, released, take_turns
from harness.waiting import eventually

LATENCY_S: Final = 0.1
WARM_UP: Final = 50
POSTERS: Final = 8
PATIENCE_S: Final = 300.0
UNSENT: Final = (":queued", ":deferred", ":sending")


@dataclass(frozen=True)
class Life:
    """What Redis used for a message: ms of its processor, bytes of its append-only file."""

    accepted_ms: float
    accepted_bytes: float
    delivered_ms: float
    """From the beginning, the report's share included."""
    delivered_bytes: float


def run(place: Place, plan: Plan) -> Report:
    """Take turns with the release."""
    report, old = Report("life"), released(plan.against)
    messages = max(1, plan.messages // 3)
    before, after = take_turns(plan.rounds, old, THIS, partial(_one, place, messages=messages))
    for tree, lives in ((old, before), (THIS, after)):
        report.rows.append(
            {
                "smsq": tree.name,
                "redis ms, to accepted": spread(one.accepted_ms for one in lives).text(3),
                "to delivered": spread(one.delivered_ms for one in lives).text(3),
                "bytes appended, to accepted": spread(one.accepted_bytes for one in lives).text(0),
                "to delivered ": spread(one.delivered_bytes for one in lives).text(0),
            }
        )
    report.notes.append(
        f"{messages} single messages a round, a worker and the HTTP API; each report a post of its "
        f"own, {POSTERS} at a time"
    )
    figures = {
        name: spread(getattr(one, name) for one in after).median
        / spread(getattr(one, name) for one in before).median
        for name in Life.__dataclass_fields__
    }
    report.notes.append(
        f"of {plan.against}'s bytes: {figures['accepted_bytes']:.2f} x to accepted, "
        f"{figures['delivered_bytes']:.2f} x to delivered"
    )
    of = f"Redis' cpu a message, of {plan.against}: delay() to"
    judge(
        [
            Goal(f"{of} accepted", figures["accepted_ms"], 0.35, "x"),
            Goal(f"{of} delivered", figures["delivered_ms"], 0.45, "x"),
        ],
        report,
    )
    return report


def _one(place: Place, tree: Tree, _: int, *, messages: int) -> Life:
    """Send all, then report all, with what a site runs."""
    token, bind = secrets.token_hex(24), f"127.0.0.1:{free_port()}"
    place.server.renew()
    place.fresh(f"life-{tree.name}", tree, **UNLIMITED, SMSQ_REPORT_TOKEN=token)
    place.client.config_set("auto-aof-rewrite-percentage", 0)
    place.control.resume(ACCOUNT, "nothing is to wait for")
    place.gateway.set(latency=LATENCY_S)
    url = f"http://{bind}/reports/{token}"
    try:
        place.start(api_service(f"http://{bind}/", place.environ | {tree.api_bind: bind}))
        place.start_workers(1)
        _send(place, tree, 0, WARM_UP)
        _report(place, url, 0)
        began = place.used()
        _send(place, tree, WARM_UP, messages)
        accepted = place.used()
        _report(place, url, WARM_UP)
        delivered = place.used()
    finally:
        place.stop_workers()
    return Life(*_each(began, accepted, messages), *_each(began, delivered, messages))


def _each(before: Used, after: Used, messages: int) -> tuple[float, float]:
    return (
        (after.redis_cpu_s - before.redis_cpu_s) / messages * 1000,
        (after.appended_bytes - before.appended_bytes) / messages,
    )


def _send(place: Place, tree: Tree, first: int, count: int) -> None:
    """Send messages by delay(), and wait until the ledger knows that all are accepted."""
    enqueue(place, Contender("", "ours_single", "", tree=tree), 0, count, first=first)
    eventually(lambda: place.gateway.calls(first + count - 1), PATIENCE_S)
    eventually(lambda: not _live(place, UNSENT), PATIENCE_S)


def _report(place: Place, url: str, first: int) -> None:
    """Post the reports of the calls from one on, and wait until the ledger has them all."""
    mids = [call.mid for call in place.gateway.calls(first)]
    with ThreadPoolExecutor(POSTERS) as posters:
        list(posters.map(partial(_post, url), (mids[n::POSTERS] for n in range(POSTERS))))
    eventually(lambda: not _live(place, ("",)), PATIENCE_S)


def _post(url: str, mids: Sequence[str]) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for mid in mids:
            body = json.dumps({"mid": mid, "stat": "DELIVRD"})
            answer = session.post(
                url, body, headers={"Content-Type": "application/json"}, timeout=30
            )
            answer.raise_for_status()


def _live(place: Place, ends: tuple[str, ...]) -> int:
    """Count the messages that have not ended, in states with these endings.

    A look costs Redis less than a message does, and both trees as much.
    """
    return sum(n for name, n in place.control.live().items() if name.endswith(ends))
