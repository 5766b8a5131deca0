"""Campaigns in the ledger: counted, paused, slowed, cancelled, swept, whatever messages do."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest
import redis

from harness.campaigns import SPRING, check, enter, gap_is_over, read, release, sweep
from harness.scene import DELIVRD, PHONE_IS_OFF, TEMPLATE, Scene, stat
from smsq import keys
from smsq.audit import act
from smsq.cancelling import cancel
from smsq.cipher import PlaintextCipher
from smsq.contract import Lane, State, parse
from smsq.entries import Entered
from smsq.errors import CampaignCancelled, InvalidMessage, KeyConflict
from smsq.functions import lua
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Rejected, RetryLater
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.campaigns import Campaigns, Deed
from smsq_worker.ledger.selecting import Selection, Selector
from smsq_worker.ledger.states import read_states


@pytest.fixture
def campaigns(client: redis.Redis, scene: Scene) -> Campaigns:
    return Campaigns(client, scene.rules)


# --- records and counts ---------------------------------------------------------------------


def test_a_campaign_is_one_record_with_counts_of_every_state(
    scene: Scene, campaigns: Campaigns
) -> None:
    names = ["a", "b", "c", "d", "e"]
    enter(scene, *names)
    check(scene, campaigns, *names)
    scene.accept("a")
    scene.report("a", DELIVRD)
    scene.accept("b")
    scene.go("c")
    check(scene, campaigns, *names)
    scene.record("c", Outcome.NOT_SENT)
    scene.go("d")
    scene.record("d", Outcome.REFUSED)
    scene.go("e")
    scene.record("e", Outcome.MAYBE_SENT)
    check(scene, campaigns, *names)
    found = read(campaigns)
    assert (found.lane, found.template, found.stop, found.ended_at) == ("bulk", TEMPLATE, "", None)
    assert "@" in found.by
    assert scene.status("a").campaign == SPRING


def test_late_news_moves_the_counts_too(scene: Scene, campaigns: Campaigns) -> None:
    enter(scene, "a")
    scene.accept("a")
    scene.report("a", stat("MK:0001", "permanent"))
    check(scene, campaigns, "a")
    scene.report("a", DELIVRD)
    check(scene, campaigns, "a")


def test_reasons_are_bounded(scene: Scene, campaigns: Campaigns) -> None:
    enter(scene, "m")
    before = {f"reason:report:W:{n}": 0 for n in range(225)}
    scene.client.hset(keys.campaign(SPRING), mapping=before)
    for n in range(10):
        enter(scene, f"m{n}")
        scene.accept(f"m{n}")
        scene.report(f"m{n}", stat(f"X:{n:04}", "permanent"))
    scene.report("m9", DELIVRD)
    found = read(campaigns)
    assert sum(found.reasons.values()) == found.states["failed"] == 9
    assert found.reasons["other"] > 1
    assert scene.client.hlen(keys.campaign(SPRING)) == 242  # with "other", and a new way


def test_it_is_seen_at_once_that_the_last_message_of_any_lane_has_ended(
    scene: Scene, campaigns: Campaigns
) -> None:
    def deliver(name: str) -> bool:
        scene.accept(name)
        scene.report(name, DELIVRD)
        return read(campaigns).ended_at is not None

    enter(scene, "a", "b", "c")
    scene.enter("d", lane="notice", campaign=SPRING)
    assert not deliver("a")
    enter(scene, "e")
    assert [deliver(name) for name in ("b", "d", "c", "e")] == [False, False, False, True]
    enter(scene, "f", "g", send_at=scene.now_ms() / 1000 + 60)
    cancel(scene.client, scene.settings, ["f"])
    assert read(campaigns).ended_at is None
    cancel(scene.client, scene.settings, ["g"])
    assert read(campaigns).ended_at is not None
    check(scene, campaigns, *"abcdefg")


def test_of_most_messages_it_costs_five_commands(scene: Scene) -> None:
    def asked(act: Callable[[], object]) -> list[str]:
        with scene.client.monitor() as monitor:
            act()
            scene.client.echo("done")
            commands = (one["command"].split() for one in monitor.listen())
            seen = takewhile(lambda one: one[0] != "ECHO", commands)
            return [one[0] for one in seen if keys.campaign(SPRING) in one]

    enter(scene, "a", "b", "c")
    for name in ("a", "c"):
        scene.accept(name)
    scene.report("a", DELIVRD)
    assert asked(lambda: enter(scene, "d")) == ["HMGET", "HINCRBY"]
    assert asked(lambda: scene.go("b")) == ["HINCRBY"]
    assert asked(lambda: scene.record("b", Outcome.ACCEPTED)) == ["HINCRBY"]
    assert asked(lambda: scene.report("b", DELIVRD)) == ["HINCRBY"]


def test_several_lanes_and_templates_are_said_to_be_several(
    scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a")
    scene.enter("b", lane="notice", template="SMS_2002", campaign=SPRING)
    assert (read(campaigns).lane, read(campaigns).template) == ("*", "*")


def test_a_message_without_a_campaign_leaves_no_trace_of_one(
    client: redis.Redis, scene: Scene
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    assert not client.keys("smsq:campaign*")
    assert client.hget(keys.message("m1"), "campaign") is None


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "of 13800138000", "138-0013-8000", 5])
def test_a_name_is_short_and_printable_and_holds_no_number(scene: Scene, name: Any) -> None:
    with pytest.raises(InvalidMessage, match="campaign must"):
        enter(scene, "a", campaign=name)


def test_there_are_only_so_many_campaigns(client: redis.Redis, scene: Scene) -> None:
    client.zadd(keys.CAMPAIGNS, {f"c{n}": "inf" for n in range(10_000)})
    with pytest.raises(InvalidMessage, match="one too many"):
        enter(scene, "a")
    assert not client.exists(keys.message("a"))


def test_the_first_campaign_shuts_out_workers_that_do_not_know_them(
    client: redis.Redis, scene: Scene
) -> None:
    scene.enter("m1")
    assert client.hget(keys.SCHEMA, "readable_by") in {None, "1"}
    enter(scene, "a")
    assert client.hget(keys.SCHEMA, "readable_by") == "3"


# --- its end --------------------------------------------------------------------------------


def pass_quiet(scene: Scene) -> None:
    """Let the time pass after which the scheduler looks at a campaign that has ended."""
    scene.client.zadd(keys.CAMPAIGNS, {SPRING: 1}, xx=True)
    scene.claim()


def test_its_end_is_one_callback_and_its_messages_have_none(
    client: redis.Redis, settings: Settings
) -> None:
    scene = Scene(client, settings, webhook=True)
    enter(scene, "a", "b")
    for name in ("a", "b"):
        scene.accept(name)
        scene.report(name, DELIVRD)
    assert client.zcard(keys.NOTICES) == 0
    pass_quiet(scene)
    pass_quiet(scene)
    assert client.zrange(keys.NOTICES, 0, -1) == [f"webhook:finished:{SPRING}"]
    callback = Callbacks(client, scene.rules).take(f"webhook:finished:{SPRING}")
    assert callback.outcome["counts"] == {"delivered": 2}
    assert callback.outcome["campaign"] == SPRING
    assert callback.outcome["finished_at"]


def test_by_setting_each_message_is_told_of(client: redis.Redis, settings: Settings) -> None:
    scene = Scene(client, settings, webhook=True, campaign_webhook="each")
    enter(scene, "a")
    scene.accept("a")
    scene.report("a", DELIVRD)
    assert client.zrange(keys.NOTICES, 0, -1) == ["webhook:delivered:a"]


def test_one_that_goes_on_has_not_ended(client: redis.Redis, scene: Scene) -> None:
    enter(scene, "a")
    scene.accept("a")
    scene.report("a", DELIVRD)
    assert client.zscore(keys.CAMPAIGNS, SPRING) != float("inf")
    enter(scene, "b")
    assert client.zscore(keys.CAMPAIGNS, SPRING) == float("inf")
    assert client.hget(keys.campaign(SPRING), "ended") is None


def test_a_record_goes_when_its_last_message_does(client: redis.Redis, scene: Scene) -> None:
    enter(scene, "a")
    scene.accept("a")
    scene.report("a", DELIVRD)
    Campaigns(client, scene.rules).do("cancel", SPRING)
    client.delete(keys.CAMPAIGN_SWEEP)
    pass_quiet(scene)
    client.hset(keys.campaign(SPRING), "ended", 1)
    pass_quiet(scene)
    assert not client.keys("smsq:campaign*")
    assert not client.exists(keys.STOPS)
    scene.report("a", DELIVRD)
    assert not client.keys("smsq:campaign*")


# --- pause ----------------------------------------------------------------------------------


def test_a_paused_campaign_waits_once_and_holds_up_no_other(
    scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a", "b")
    enter(scene, "other", campaign="autumn")
    assert campaigns.do("pause", SPRING) == ""
    assert scene.admit("a") == Rejected("deferred", State.DEFERRED)
    assert isinstance(scene.admit("other"), Admitted)
    assert release(scene) == []
    assert scene.timer("a") == float(scene.field("a", "expires") or 0)
    assert campaigns.do("resume", SPRING) == "paused"
    assert release(scene) == ["a"]
    assert scene.state("a") == "queued"
    assert not scene.client.exists(keys.CAMPAIGN_ROOM + SPRING)
    check(scene, campaigns, "a", "b")


def test_its_ttl_runs_on_while_it_is_paused(scene: Scene, campaigns: Campaigns) -> None:
    enter(scene, "a")
    campaigns.do("pause", SPRING)
    scene.admit("a")
    scene.run_out_of_ttl("a")
    assert scene.state("a") == "expired"
    assert not scene.client.exists(keys.CAMPAIGN_ROOM + SPRING)
    check(scene, campaigns, "a")


def test_many_go_on_in_slices_and_in_their_order(scene: Scene, campaigns: Campaigns) -> None:
    names = [f"m{n:03}" for n in range(120)]
    campaigns.do("pause", SPRING)
    enter(scene, *names)
    campaigns.do("pause", SPRING)
    for name in names:
        scene.admit(name)
        scene.client.zadd(keys.CAMPAIGN_ROOM + SPRING, {name: int(name[1:])})
    campaigns.do("resume", SPRING)
    assert release(scene) == names[:50]
    assert release(scene) == names[50:100]
    assert release(scene) == names[100:]


def test_many_campaigns_that_go_on_together_share_a_slice(
    scene: Scene, campaigns: Campaigns
) -> None:
    names = [f"c{n}-{i}" for n in range(30) for i in range(5)]
    for name in names:
        enter(scene, name, campaign=name.partition("-")[0])
        campaigns.do("pause", name.partition("-")[0])
        scene.admit(name)
    for n in range(30):
        campaigns.do("resume", f"c{n}")
    first = release(scene)
    # An otp must not wait for as many as there are campaigns; and none of these waits for another.
    assert len(first) == 100
    assert len({name.partition("-")[0] for name in first}) == 30
    assert sorted(first + release(scene)) == sorted(names)


# --- rate -----------------------------------------------------------------------------------

DEEDS: list[tuple[Deed, float | None]] = [
    ("pause", None),
    ("resume", None),
    ("rate", 5),
    ("pause", None),
    ("resume", None),
    ("rate", None),
    ("pause", None),
    ("rate", None),
    ("resume", None),
]


def test_a_slowed_campaign_goes_at_its_own_rate_and_holds_up_no_other(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a", "b", "c")
    enter(scene, "other", campaign="autumn")
    campaigns.do("rate", SPRING, rate=0.01)
    assert scene.go("a") == 1
    assert scene.admit("b") == Rejected("deferred", State.DEFERRED)
    assert scene.admit("c") == Rejected("deferred", State.DEFERRED)
    assert not isinstance(scene.admit("other"), Rejected)
    assert release(scene) == []
    gap_is_over(scene)
    assert release(scene) == ["b"]
    assert not isinstance(scene.admit("b"), Rejected)  # It keeps its slot until it goes.
    campaigns.do("rate", SPRING)
    assert release(scene) == ["c"]
    check(scene, campaigns, "a", "b", "c")


def test_who_came_first_goes_first(scene: Scene, campaigns: Campaigns) -> None:
    enter(scene, "a", "b")
    campaigns.do("rate", SPRING, rate=0.01)
    scene.go("a")
    scene.admit("b")
    enter(scene, "c")
    gap_is_over(scene)
    assert scene.admit("c") == Rejected("deferred", State.DEFERRED)
    assert release(scene) == ["b"]


def test_slots_do_not_add_up_for_messages_that_cannot_go_meanwhile(
    scene: Scene, campaigns: Campaigns
) -> None:
    """As in a pause, outside the hours of bulk, or behind a long queue."""
    enter(scene, "a", "b", "c", "d")
    campaigns.do("rate", SPRING, rate=0.01)
    scene.go("a")
    for name in ("b", "c", "d"):
        scene.admit(name)
    for name in ("b", "c", "d"):
        gap_is_over(scene)
        assert release(scene) == [name]
    gap_is_over(scene)
    assert scene.go("b") == 1
    for name in ("c", "d"):
        assert scene.admit(name) == Rejected("deferred", State.DEFERRED)
    for name in ("c", "d"):
        assert release(scene) == []
        gap_is_over(scene)
        assert release(scene) == [name]
        assert scene.go(name) == 1
    check(scene, campaigns, "a", "b", "c", "d")


def test_one_that_comes_too_soon_has_its_slot_when_it_may_go_and_not_a_gap_later(
    scene: Scene, campaigns: Campaigns
) -> None:
    def stored(name: str) -> float:
        return float(str(scene.client.hget(keys.campaign(SPRING), name)))

    enter(scene, "a", "b")
    campaigns.do("rate", SPRING, rate=0.01)
    scene.go("a")
    scene.admit("b")
    scene.client.hdel(keys.campaign(SPRING), "slot")
    assert release(scene) == ["b"]
    assert scene.admit("b") == Rejected("deferred", State.DEFERRED)
    assert scene.now_us() < stored("slot") == stored("pace") - 500_000


def test_one_that_waits_for_the_accounts_slot_is_counted_once(
    scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a")
    campaigns.do("rate", SPRING, rate=0.01)
    scene.client.hset(keys.RATE, "tat", scene.now_us() + 900_000_000)
    for _ in range(3):
        assert isinstance(scene.admit("a"), RetryLater)
    scene.client.hset(keys.RATE, "tat", 0)
    assert scene.go("a") == 1


def test_who_may_go_as_others_do_is_looked_up_no_more(scene: Scene, campaigns: Campaigns) -> None:
    def is_marked() -> bool:
        return bool(scene.client.exists(keys.STOPS))

    enter(scene, "a")
    marked = []
    for deed, rate in DEEDS:
        campaigns.do(deed, SPRING, rate=rate)
        marked.append(is_marked())
    assert marked == [True, False, True, True, True, False, True, True, False]


# --- cancel ---------------------------------------------------------------------------------


def test_from_the_answer_on_all_say_cancelled_and_nothing_is_sent(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    names = ["a", "b", "c", "d"]
    enter(scene, *names)
    scene.go("b")
    scene.record("b", Outcome.MAYBE_SENT)
    scene.go("c")
    scene.enter("mine", lane="bulk")
    assert campaigns.do("cancel", SPRING) == ""
    assert [scene.state(name) for name in names] == ["cancelled", "failed", "sending", "cancelled"]
    assert scene.status("b").reason == "local:cancelled"
    assert scene.status("a").certainly_not_sent
    assert not scene.status("b").certainly_not_sent
    assert read_states(client, "", names) == ["cancelled", "failed", "sending", "cancelled"]
    assert scene.ledger.counters()["messages:bulk:cancelled"] == 2
    selector = Selector(client, scene.settings.rules, [PlaintextCipher()])
    of_spring = {"campaign": [SPRING]}
    counted = selector.count(Selection(of_spring), ["state", "reason"]).groups
    assert counted == {("cancelled", ""): 2, ("failed", "local:cancelled"): 1, ("sending", ""): 1}
    found = selector.page(Selection(of_spring | {"state": ["cancelled"]}), 10).rows
    assert [name for name, _ in found] == ["d", "a"]
    assert not selector.page(Selection(of_spring | {"state": ["queued", "held"]}), 10).rows
    before = read(campaigns)
    assert scene.admit("a") == Rejected("ended", State.CANCELLED)
    sweep(scene)
    assert read(campaigns).states == before.states
    assert scene.ledger.counters()["messages:bulk:cancelled"] == 2
    assert client.hget(keys.message("d"), "state") == "cancelled"
    assert not client.exists(keys.payload("d"))
    assert isinstance(scene.admit("mine"), Admitted | RetryLater)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.ACCEPTED, "accepted"),
        (Outcome.NOT_SENT, "cancelled"),
        (Outcome.REFUSED, "failed"),
        (Outcome.MAYBE_SENT, "failed"),
    ],
)
def test_an_attempt_under_way_decides_and_is_not_tried_again(
    scene: Scene, campaigns: Campaigns, outcome: Outcome, state: str
) -> None:
    enter(scene, "a")
    scene.go("a")
    campaigns.do("cancel", SPRING)
    scene.record("a", outcome)
    assert scene.state("a") == state
    if state == "accepted":
        scene.report("a", PHONE_IS_OFF)
        assert scene.state("a") == "failed"
    check(scene, campaigns, "a")


def test_what_waits_for_later_is_swept_too(scene: Scene, campaigns: Campaigns) -> None:
    enter(scene, "later", send_at=scene.now_ms() / 1000 + 3600)
    enter(scene, "held", on_ambiguous="hold")
    scene.go("held")
    scene.record("held", Outcome.MAYBE_SENT)
    enter(scene, "parked")
    campaigns.do("pause", SPRING)
    scene.admit("parked")
    campaigns.do("cancel", SPRING)
    assert scene.state("later") == scene.state("parked") == "cancelled"
    assert scene.state("held") == "failed"
    sweep(scene)
    assert scene.client.zcard(keys.TIMERS) == scene.client.zcard(keys.HELD) == 0
    check(scene, campaigns, "later", "held", "parked")
    assert not scene.client.exists(keys.CAMPAIGN_ROOM + SPRING)


def test_two_are_swept_though_the_second_was_cancelled_in_between(
    scene: Scene, campaigns: Campaigns
) -> None:
    names = [f"m{n:03}" for n in range(300)]
    enter(scene, *names[:150])
    enter(scene, *names[150:], campaign="autumn")
    campaigns.do("cancel", SPRING)
    scene.claim()
    campaigns.do("cancel", "autumn")
    sweep(scene)
    assert scene.client.zcard(keys.TIMERS) == 0
    assert read(campaigns).states == read(campaigns, "autumn").states == {"cancelled": 150}


def test_a_cancelled_campaign_takes_no_more(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a")
    campaigns.do("cancel", SPRING)
    with pytest.raises(CampaignCancelled, match="spring was cancelled") as raised:
        enter(scene, "b")
    assert raised.value.campaign == SPRING
    assert not client.exists(keys.message("b"))
    for deed in ("pause", "resume", "rate", "cancel"):
        assert campaigns.do(deed, SPRING) == "cancelled"
    assert campaigns.do("cancel", "unknown") == "unknown"


def test_the_right_file_with_the_same_keys_goes_at_once(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a", key="k1")
    enter(scene, "sent", key="k2")
    scene.accept("sent")
    campaigns.do("cancel", SPRING)
    right = parse(("13900139000", "SMS_2002", "1"), {"lane": "bulk", "key": "k1"})
    assert scene.entrance.enter("b", right) == Entered(State.QUEUED)
    assert client.hget(keys.message("a"), "state") == "cancelled"
    assert not client.exists(keys.payload("a"))
    assert client.zscore(keys.TIMERS, "a") is None
    assert scene.go("b") == 1
    again = parse(("13900139000", "SMS_2002", "1"), {"lane": "bulk", "key": "k2"})
    with pytest.raises(KeyConflict):
        scene.entrance.enter("c", again)
    check(scene, campaigns, "a", "sent")


def test_one_message_of_a_campaign_can_be_cancelled(
    client: redis.Redis, scene: Scene, settings: Settings, campaigns: Campaigns
) -> None:
    enter(scene, "a", "b")
    scene.go("b")
    scene.record("b", Outcome.MAYBE_SENT)
    cancel(client, settings, ["a", "b"])
    check(scene, campaigns, "a", "b")
    assert read(campaigns).ended_at


def test_what_an_operator_did_is_audited(
    client: redis.Redis, scene: Scene, campaigns: Campaigns
) -> None:
    enter(scene, "a")
    campaigns.do("cancel", SPRING, act=act("campaign cancel", who="kim", name=SPRING))
    ((_, entry),) = client.xrange(keys.AUDIT)  # type: ignore[misc]
    assert (entry["who"], entry["what"], entry["effect"]) == ("kim", "campaign cancel", "cancelled")
    assert json.loads(entry["arguments"]) == {"name": SPRING}


def test_lanes_of_the_contract_are_those_of_the_counts() -> None:
    """campaigns.lua names them one by one."""

    for lane in Lane:
        assert f"'{lane}:'" in lua("campaigns")
