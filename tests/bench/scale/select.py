"""Messages of a ledger of a million are listed and counted by each selector, while otps go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import smsq
from bench.figures import part
from bench.peers.goals import Goal
from bench.place import Place, until
from bench.plan import Plan
from bench.ratio import ratio
from bench.scale.fill import Filled, phone, queue
from bench.scale.measure import measuring
from bench.scale.queued import MESSAGES, used_memory
from bench.scale.result import SETTLE_S, WORKERS, Result, fresh, result, scaled
from bench.shapes import BATCH, CODE, TEMPLATE
from smsq import keys
from smsq.contract import Lane

if TYPE_CHECKING:
    from smsq_worker.ledger.selecting import Selection, Selector

MOST: Final = 1.10
"""Times as long may an otp take beside a search."""
ROUNDS: Final = 10
ROUND_S: Final = 5.0
"""So long is searched in a round, a part of the ledger or all of it over and over; then not."""
LIMIT: Final = 50
EVERY: Final = 1000
"""One message in so many is what is looked for."""
PATTERNS: Final = {
    "state": "acc*",
    "reason": "report:MO:*",
    "template": "RARE",
    "lane": "notice",
    "campaign": "rare",
    "caller": "shop",
    "reference": "order-*",
}


class Search(NamedTuple):
    """What was asked for, how many there are, and how long that took."""

    what: str
    found: int
    seconds: float


def run(place: Place, plan: Plan, shape: str) -> Result:
    """Fill; look for each; then compare otps beside searches with those of rounds without."""
    # Releases before 0.3.0 have no selectors.
    from smsq.cipher import PlaintextCipher
    from smsq_worker.config.settings import Settings
    from smsq_worker.ledger.selecting import Selector

    fresh(place, "select")
    empty = used_memory(place)
    filled = _fill(place, scaled(MESSAGES, plan))
    per_message = (used_memory(place) - empty) / filled.messages
    filled = filled.plus(queue(1, Lane.BULK, shape))  # `begin` waits for a call.
    settings = Settings.load(place.environ)
    selector = Selector(place.client, settings.rules, [PlaintextCipher()], ["shop"])
    place.start_workers(WORKERS)
    place.begin()
    with measuring(place) as measure:
        until(time.monotonic() + SETTLE_S)
        measure.begin()
        searches = list(_searches(selector))
        rounds = [_round(selector) for _ in range(ROUNDS)]
        measure.end()
    assert all(one.found for one in searches), f"nothing was found: {searches}"
    beside, without = (
        [measure.otps.waits(since, since + long) for since, long in kind]
        for kind in zip(*rounds, strict=True)
    )
    times = ratio(list(map(median, without)), list(map(median, beside)))
    p99 = [1000 * part([*chain(*kind)], 99) for kind in (beside, without)]
    notes = (
        f"{per_message:.0f} bytes of Redis a message, its payload and its place in the index too",
        *(f"{one.what}: {one.found} in {one.seconds:.2f} s" for one in searches),
        f"otps beside a search / without one: {times.middle:.2f} ({times.interval()})",
        f"their p99: {p99[0]:.0f} ms beside it, {p99[1]:.0f} ms without",
    )
    goals = (Goal("otps beside a search, 95 % of the ratio", times.high, MOST, "times"),)
    return result(measure, filled, *notes, goals=goals)


def _fill(place: Place, count: int) -> Filled:
    """Enqueue messages for tomorrow; a few, the oldest, are what is looked for."""
    began, later = time.monotonic(), datetime.now(UTC) + timedelta(days=1)
    rare = max(LIMIT, count // EVERY)

    def rows(some: range, template: str, **more: Any) -> Iterator[dict[str, Any]]:
        for n in some:
            yield {"phone": phone(n), "template": template, "code": CODE, "send_at": later} | more

    ids: list[str] = []
    first = rows(range(rare), "RARE", reference="order-7")
    lane, keyed = Lane.NOTICE, {**next(first), "key": "order-7"}
    smsq.send_many([keyed], lane=lane, campaign="rare", on_batch=ids.extend)
    smsq.send_many(first, lane=lane, batch_size=BATCH, campaign="rare", on_batch=ids.extend)
    with place.client.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.hset(keys.message(one), mapping={"caller": "shop", "reason": "report:MO:0254"})
        pipe.execute()
    smsq.send_many(rows(range(rare, count), TEMPLATE), lane=Lane.BULK, batch_size=BATCH)
    return Filled(count, 0, time.monotonic() - began)


def _selections() -> Iterator[tuple[str, Selection]]:
    from smsq_worker.ledger.selecting import Selection

    yield "all", Selection()
    for name, pattern in PATTERNS.items():
        yield name, Selection({name: [pattern]})
    yield "phone", Selection(phone=phone(0))
    yield "key", Selection(key="order-7")
    yield "since", Selection(since=datetime.now(UTC) - timedelta(hours=1))


def _searches(selector: Selector) -> Iterator[Search]:
    """List and count by each selector, one after the other."""
    for name, selection in _selections():
        began = time.monotonic()
        found = len(selector.page(selection, LIMIT).rows)
        yield Search(f"list by {name}", found, time.monotonic() - began)
        began = time.monotonic()
        counts = selector.count(selection, ["state"])
        yield Search(f"count by {name}", sum(counts.groups.values()), time.monotonic() - began)
    rare = dict(_selections())["template"]
    began = time.monotonic()
    found = len(selector.page(rare, LIMIT, scan=True).rows)
    yield Search("list --scan by template", found, time.monotonic() - began)
    began = time.monotonic()
    counts = selector.count(rare, ["state"], scan=True)
    yield Search("count --scan by template", sum(counts.groups.values()), time.monotonic() - began)


def _round(selector: Selector) -> tuple[tuple[float, float], tuple[float, float]]:
    """Search for a while, then rest as long; give when each began, and for how long."""
    began = time.monotonic()
    _search_until(selector, began + ROUND_S)
    between = time.monotonic()
    until(between + (between - began))
    return (began, between - began), (between, between - began)


def _search_until(selector: Selector, end: float) -> None:
    """Count, slice after slice, over and over; a whole search of a million takes too long."""
    (_, selection), *_others = _selections()
    while True:
        for _ in selector._slices(selection, ["template", "hour"], None):
            if time.monotonic() >= end:
                return
