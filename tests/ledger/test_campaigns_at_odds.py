"""Campaigns where acts meet that were not meant for each other."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest
import redis

from harness.campaigns import SPRING, check, enter, gap_is_over, read, release, sweep
from harness.clock_step import step
from harness.scene import TEMPLATE, Scene
from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.contract import State
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Rejected
from smsq_worker.ledger.campaigns import Campaigns, Deed
from smsq_worker.ledger.selecting import Selection, Selector


@pytest.fixture
def campaigns(client: redis.Redis, scene: Scene) -> Campaigns:
    return Campaigns(client, scene.rules)


def commands(client: redis.Redis) -> int:
    info: Any = client.info("commandstats")
    return sum(one["calls"] for one in info.values())


# --- what is shown of those that the sweep has not come to -----------------------------------


@pytest.mark.parametrize("scan", [False, True])
def test_those_that_wait_are_found_and_counted_as_ended(
    scene: Scene, campaigns: Campaigns, scan: bool
) -> None:
    enter(scene, "a", "sent", "doubt")
    enter(scene, "held", on_ambiguous="hold")
    enter(scene, "other", campaign="autumn")
    scene.accept("sent")
    for name in ("doubt", "held"):
        scene.go(name)
        scene.record(name, Outcome.MAYBE_SENT)
    campaigns.do("cancel", SPRING)
    selector = Selector(scene.client, scene.rules, [PlaintextCipher()])
    names = ["a", "sent", "doubt", "held", "other"]

    def found() -> Any:
        counts = selector.count(Selection(), ["state", "reason"], scan=scan).groups
        pages = [
            {name for name, _ in selector.page(Selection(one), 10, scan=scan).rows}
            for one in (
                {"state": ["cancelled"]},
                {"state": ["queued", "deferred", "held"]},
                {"reason": ["local:cancelled"]},
                {"campaign": [SPRING]},
            )
        ]
        return counts, pages

    before = found()
    assert before[0] == Counter(
        (str(status.state), status.reason or "") for status in map(scene.status, names)
    )
    assert before[1] == [{"a"}, {"other"}, {"doubt", "held"}, set(names) - {"other"}]
    sweep(scene)
    assert found() == before


@pytest.mark.parametrize("by", ["admit", "claim"])
def test_what_was_said_to_be_cancelled_does_not_expire(
    scene: Scene, campaigns: Campaigns, by: str
) -> None:
    enter(scene, "a", "b")
    campaigns.do("cancel", SPRING)
    scene.client.hset(keys.message("a"), "expires", 1)
    if by == "admit":
        assert scene.admit("a").state == "cancelled"  # type: ignore[union-attr]
    else:  # The sweep has come past it, and will come once more.
        scene.client.hset(keys.CAMPAIGN_SWEEP, "which", keys.HELD)
        scene.run_out("a")
        assert scene.timer("a") > scene.now_ms() + 500_000  # type: ignore[operator]
    check(scene, campaigns, "a", "b")
    sweep(scene)
    assert scene.client.hget(keys.message("a"), "state") == "cancelled"
    check(scene, campaigns, "a", "b")


def test_a_batch_of_wakeups_leaves_them_to_the_sweep(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a", "doubt")
    scene.go("doubt")
    scene.record("doubt", Outcome.MAYBE_SENT)
    scene.wake("doubt")
    campaigns.do("cancel", SPRING)
    assert scene.admit("a") == Rejected("ended", State.CANCELLED)
    assert scene.admit("doubt") == Rejected("ended", State.FAILED)
    assert client.hget(keys.message("a"), "state") == "queued"
    sweep(scene)
    assert client.hget(keys.message("a"), "state") == "cancelled"
    check(scene, campaigns, "a", "doubt")


def test_one_that_no_sweep_comes_to_ends_where_it_is_met(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a", "b")
    campaigns.do("cancel", SPRING)
    client.delete(keys.CAMPAIGN_SWEEP)
    assert scene.admit("a") == Rejected("ended", State.CANCELLED)
    scene.run_out("b")
    assert [client.hget(keys.message(one), "state") for one in "ab"] == ["cancelled"] * 2


@pytest.mark.parametrize("decision", ["resend", "drop"])
def test_a_held_one_is_decided_by_the_cancel(
    scene: Scene, campaigns: Campaigns, decision: Any
) -> None:
    enter(scene, "a", on_ambiguous="hold")
    scene.go("a")
    scene.record("a", Outcome.MAYBE_SENT)
    campaigns.do("cancel", SPRING)
    assert scene.ledger.decide("a", decision)[0] == "not held"
    assert scene.status("a").reason == "local:cancelled"
    check(scene, campaigns, "a")
    sweep(scene)
    check(scene, campaigns, "a")


def test_a_test_number_whose_worker_died_is_not_tried_again(
    scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a")
    scene.go("a")
    scene.client.hset(keys.message("a"), "test", "DELIVRD")
    campaigns.do("cancel", SPRING)
    sweep(scene)
    scene.run_out("a")
    assert scene.client.hget(keys.message("a"), "state") == "cancelled"
    check(scene, campaigns, "a")


@pytest.mark.parametrize("deed", ["pause", "cancel"])
def test_what_is_decided_again_is_marked_again(
    client: redis.Redis, scene: Scene, campaigns: Campaigns, deed: Deed
) -> None:
    enter(scene, "a")
    campaigns.do(deed, SPRING)
    client.delete(keys.STOPS)  # as an eviction does
    campaigns.do(deed, SPRING)
    assert isinstance(scene.admit("a"), Rejected)


# --- many that wait --------------------------------------------------------------------------


def test_a_tick_costs_as_much_with_a_thousand_paused_campaigns_as_with_none(
    scene: Scene, campaigns: Campaigns
) -> None:
    def park(n: int) -> None:
        name = f"c{n}"
        enter(scene, name, campaign=name)
        campaigns.do("pause", name)
        scene.admit(name)

    def cost() -> int:
        before = commands(scene.client)
        release(scene)
        return commands(scene.client) - before

    park(0)
    for _ in range(3):
        few = cost()
    for n in range(1, 300):
        park(n)
    most = max(cost() for _ in range(12))
    assert most < few + 200
    assert cost() == few
    campaigns.do("resume", "c7")
    assert release(scene) == ["c7"]


def test_of_many_slow_campaigns_each_has_its_turn(scene: Scene, campaigns: Campaigns) -> None:
    names = [f"c{n}" for n in range(100)]
    for name in names:
        enter(scene, name, f"{name}-later", campaign=name)
        campaigns.do("rate", name, rate=0.001)
        campaigns.do("pause", name)
        scene.admit(name)
        campaigns.do("resume", name)
    woken: set[str] = set()
    for _ in range(200):
        before = commands(scene.client)
        woken |= set(release(scene))
        assert commands(scene.client) - before < 40 * 25
        if woken == set(names):
            return
    raise AssertionError("some have never had their turn")


def test_one_slowed_one_not_and_plain_ones_share_the_rate_and_none_starves(
    scene: Scene, campaigns: Campaigns
) -> None:
    kinds = ("slowed", "free", "plain")
    queue: deque[str] = deque()
    for kind in kinds:  # One after the other: the slowed ones stand before all others.
        for n in range(30):
            campaign = None if kind == "plain" else kind
            scene.enter(f"{kind}-{n}", lane="bulk", campaign=campaign, phone=f"1390000{n:04}")
            queue.append(f"{kind}-{n}")
    campaigns.do("rate", "slowed", rate=0.01)
    sent: list[tuple[int, str]] = []
    for slot in range(120):  # One of the account's; of five of them one is the slowed campaign's.
        scene.client.hset(keys.RATE, "tat", 0)
        scene.client.delete(keys.CALLS, keys.HEALTH)
        if slot % 5 == 0:
            gap_is_over(scene, "slowed")
            queue.extend(release(scene))
        while queue:
            name = queue.popleft()
            answer = scene.admit(name)
            if isinstance(answer, Admitted):
                scene.record(name, Outcome.ACCEPTED)
                sent.append((slot, name.partition("-")[0]))
                break
            assert answer == Rejected("deferred", State.DEFERRED), "a slot was left unused"
    assert Counter(kind for slot, kind in sent if slot <= 61)["slowed"] <= 2
    assert Counter(kind for slot, kind in sent) == {"free": 30, "plain": 30, "slowed": 13}
    # What stood behind the others goes at the campaign's rate all the same.
    assert max(Counter(slot // 5 for slot, kind in sent if kind == "slowed").values()) == 1


def test_one_that_cannot_be_let_go_is_tried_again_and_stops_no_other(
    scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "bad", "good")
    campaigns.do("pause", SPRING)
    for name in ("bad", "good"):
        scene.admit(name)
    expires = scene.field("bad", "expires")
    scene.client.hset(keys.message("bad"), "lane", "no lane")
    scene.client.hset(keys.message("bad"), "expires", "soon")
    campaigns.do("resume", SPRING)
    assert release(scene) == ["good"]
    scene.client.hset(keys.message("bad"), mapping={"lane": "bulk", "expires": expires or ""})
    assert (scene.timer("bad") or 0) < scene.now_ms() + 61_000
    scene.wake("bad")


def test_a_record_that_is_none_keeps_no_other_campaign_from_going_on(
    scene: Scene, campaigns: Campaigns
) -> None:
    for name in ("bad", "good"):
        enter(scene, name, campaign=name)
        campaigns.do("pause", name)
        scene.admit(name)
        campaigns.do("resume", name)
    record = scene.client.hgetall(keys.campaign("bad"))
    scene.client.set(keys.campaign("bad"), "no record")
    assert release(scene) == ["good"]
    scene.enter("plain", send_at=scene.now_ms() / 1000 + 60)
    assert scene.run_out("plain") == ["plain"]
    scene.client.delete(keys.campaign("bad"))
    scene.client.hset(keys.campaign("bad"), mapping=record)  # type: ignore[arg-type]
    assert release(scene) == ["bad"]


# --- the clock -------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_puts_off_neither_the_end_nor_the_sweep(
    scene: Scene, campaigns: Campaigns
) -> None:
    scene.claim()
    enter(scene, *(f"m{n}" for n in range(150)))
    enter(scene, "over", campaign="autumn")
    enter(scene, "live", campaign="winter")
    scene.accept("over")
    scene.report("over", stat_of_the_end())
    campaigns.do("rate", "winter", rate=0.01)
    scene.go("live")
    campaigns.do("cancel", SPRING)
    scene.claim()
    step(scene.client, -86_400)
    scene.claim()
    while scene.client.hexists(keys.CLOCK, "campaign_ends"):
        scene.claim()
    due = scene.client.zscore(keys.CAMPAIGNS, "autumn")
    assert isinstance(due, float)
    assert due <= scene.now_ms() + 60_000
    assert float(scene.client.hget(keys.campaign("autumn"), "ended") or 0) <= scene.now_ms()
    assert scene.client.zscore(keys.CAMPAIGNS, "winter") == float("inf")
    sweep(scene)
    assert read(campaigns).states == {"cancelled": 150}


def stat_of_the_end() -> Any:
    from harness.scene import DELIVRD

    return DELIVRD


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["春 节", "a:b", "finished", "x" * 64, "%s {} \\", " -1"])
def test_an_odd_name_is_a_name(scene: Scene, campaigns: Campaigns, name: str) -> None:
    enter(scene, "a", "b", campaign=name)
    campaigns.do("pause", name)
    assert scene.admit("a") == Rejected("deferred", "deferred")  # type: ignore[arg-type]
    campaigns.do("resume", name)
    assert release(scene) == ["a"]
    campaigns.do("cancel", name)
    sweep(scene)
    assert read(campaigns, name).states == {"cancelled": 2}
    assert read(campaigns, name).template == TEMPLATE
