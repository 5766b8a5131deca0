"""Any order of events: after each both sides say the same. What no case thought of shows here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest
import redis

import smsq
from harness.scene import DELIVRD, OTHER_PHONE, PHONE, TEMPLATE, mid_of, stat
from harness.sides import DAY, HOUR, InMemory, InRedis, Play
from smsq import CampaignCancelled, KeyConflict, ledgers
from smsq.contract import Lane
from smsq.memory import MemoryLedger
from smsq.memory.campaigns import Deed
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome

NAMES = ("m1", "m2", "m3")
SEEDS = range(24)
STEPS = 40
REPORTS = (
    DELIVRD,
    stat("MA:0001", "permanent", suppress_ms=3_600_000, suppress_lanes=(Lane.BULK,)),
    stat("MA:0003", "transient", 600),
    stat("EXPIRED", "transient", 600, maybe_sent=True),
    stat("MK:1008", "transient", 300, hold_ms=300_000),
    stat("ACCEPTD", "pending"),
    stat("XX:0001", "unknown", raw="xx:1"),
)

Step = Callable[[Play], Any]


def a_step(pick: random.Random) -> Step:
    """Return something that happens, with all that chance has a say in already chosen."""
    name, attempt = pick.choice(NAMES), pick.randint(1, 4)
    report, outcome = pick.choice(REPORTS), pick.choice([*Outcome])
    options = {
        "phone": pick.choice((PHONE, PHONE, OTHER_PHONE)),
        "template": pick.choice((TEMPLATE, TEMPLATE, TEMPLATE, "SMS_2002")),
        "reference": pick.choice((None, "order 1")),
        "lane": pick.choice([*Lane]),
        "key": pick.choice((None, "a", "a", "b")),
        "ttl_s": pick.choice((200, HOUR, DAY)),
        "on_ambiguous": pick.choice(("resend", "hold")),
        "notify": pick.choice((None, "shop.tasks.done")),
        "campaign": pick.choice((None, None, "spring", "autumn")),
    }
    deed: Deed = pick.choice(("pause", "resume", "cancel"))
    campaign = pick.choice(("spring", "autumn"))
    wait_s = pick.choice((None, None, 30, HOUR))
    batch = [
        {
            **options,
            "task": one,
            "phone": pick.choice((PHONE, OTHER_PHONE)),
            "key": pick.choice((None, "a", "c")),
        }
        for one in pick.sample(NAMES, 2)
    ]
    stops = pick.random() < 0.5
    seconds = pick.choice((1, 61, 301, 601, HOUR, DAY, 4 * DAY))
    decision = pick.choice(("resend", "drop"))
    mid = mid_of(name, attempt)

    steps: dict[Step, int] = {
        lambda play: play.enter_in(wait_s, name, **options).duplicate_of: 4,
        lambda play: play.enter_some(batch, stops): 2,
        lambda play: play.unsuppress(): 1,
        lambda play: play.admit(name): 6,
        lambda play: play.record(name, outcome): 6,
        lambda play: play.record(name, outcome, attempt=attempt): 2,
        lambda play: play.report_on(mid, report): 5,
        lambda play: play.advance(seconds): 4,
        lambda play: play.decide(name, decision): 2,
        lambda play: smsq.cancel(name): 2,
        lambda play: play.campaign(deed, campaign): 2,
        lambda play: play.suppress("by hand", seconds, (options["lane"],)): 1,
    }
    return pick.choices([*steps], [*steps.values()])[0]


def seen(play: Play, step: Step) -> Any:
    """What a step answers, what is known of all messages then, and what is told of them."""
    try:
        answer: Any = step(play)
    except KeyConflict as conflict:
        answer = ("conflict", conflict.holder)
    except CampaignCancelled as error:
        answer = str(error)
    told = sorted(map(_told, play.told()), key=str)  # what ends at the same moment has no order
    return answer, [_known(play, name) for name in NAMES], told


def _known(play: Play, name: str) -> dict[str, Any] | None:
    status = smsq.status(name)
    if status is None:
        return None
    found = {one.name: getattr(status, one.name) for one in fields(status)}
    attempts = [(a.n, a.mid, a.outcome, a.stat, a.detail) for a in found.pop("attempts")]
    times = {name: at is None for name, at in found.items() if isinstance(at, datetime | None)}
    return found | times | {"attempts": attempts}


def _told(outcome: Any) -> dict[str, Any]:
    times = {name: at is None for name, at in outcome.items() if name.endswith("_at")}
    return dict(outcome) | times


@pytest.mark.parametrize("seed", SEEDS)
def test_both_sides_say_the_same(seed: int, client: redis.Redis, settings: Settings) -> None:
    pick = random.Random(seed)
    real, memory = Play(InRedis(client, settings)), MemoryLedger()
    outbox = Play(InMemory(memory))
    for n in range(STEPS):
        step = a_step(pick)
        in_redis = seen(real, step)
        with ledgers.replaced_by(memory):
            in_outbox = seen(outbox, step)
        assert in_outbox == in_redis, f"step {n}"
