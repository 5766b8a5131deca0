"""The clock of Redis' server steps: back by NTP or a failover, forward, or forth and back.

A step is the same as everything stored lying so much further on the other side, and that is how it
is brought about here; tests/system/test_clock_of_redis.py does it to a server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from harness.clock_step import moments, step
from harness.paths import ROOT
from harness.scene import (
    BAD_TEMPLATE,
    DELIVRD,
    LONG_AGO,
    NO_BALANCE,
    OTHER_PHONE,
    PHONE_IS_OFF,
    TEMPLATE,
    Scene,
    stat,
)
from harness.scopes import template_scope
from smsq import keys
from smsq.contract import Lane
from smsq_worker.config.settings import Settings
from smsq_worker.domain.limits import Breaker, PhoneLimit
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, RetryLater
from smsq_worker.ledger.admin import ACCOUNT, BREAKER
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.campaigns import Campaigns

DOC = ROOT / "docs" / "operate" / "redis.md"
HOUR = 3600
BACK = [(-20,), (-HOUR,)]
STEPS = [(HOUR,), (HOUR, -HOUR), *BACK]
SLOW_S = 10
"""More than a machine takes for a few lines of a test."""
SEEN_S = 1
"""So long ago, at the most, a worker's clock saw the time before the step."""

of_back = pytest.mark.parametrize("steps", BACK, ids=str)
of_all = pytest.mark.parametrize("steps", STEPS, ids=str)
Steps = tuple[int, ...]
Build = Callable[..., Scene]


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    def make(**rules: Any) -> Scene:
        usual = {"breaker": Breaker(5, 50, 60), "probe_s": 5.0}
        scene = Scene(client, settings, **usual | rules)
        scene.claim()  # a worker's clock has seen the time
        return scene

    return make


@pytest.fixture
def scene(build: Build) -> Scene:
    return build()


def take(scene: Scene, steps: Steps) -> None:
    """Let the clock step, and workers' clocks do what follows."""
    for seconds in steps:
        step(scene.client, seconds)
        scene.claim()
        while scene.client.hexists("smsq:clock", "timers"):
            scene.claim()


def ahead_s(scene: Scene, at_ms: float) -> float:
    return (at_ms - scene.now_ms()) / 1000


def ttl_left_s(scene: Scene, name: str) -> float:
    return ahead_s(scene, float(scene.field(name, "expires") or 0))


# The table


def test_every_moment_that_is_stored_is_in_the_table(build: Build) -> None:
    scene = build(phone_limits=(PhoneLimit(1, 60),), webhook=True)
    keep_everything(scene)
    table = DOC.read_text().partition("## When the clock steps")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| `")]
    assert moments(scene.client) == {place for row in rows for place in places(row)}


def places(row: str) -> set[str]:
    """Read "`key`: `field`, `field`", or a key alone."""
    key, *fields = re.findall("`([^`]+)`", row)
    return {f"{key} {field}" for field in fields} or {key}


def keep_everything(scene: Scene) -> None:
    """Have a moment stored in every place where there can be one."""
    scene.call("limited", Outcome.ACCEPTED)
    scene.enter("once", lane="otp")
    scene.go("once")
    for name in ("dead", "resting", "taken"):
        scene.enter(name, lane="otp")
        assert scene.stays(name) == "ended"
    notices = Callbacks(scene.client, scene.rules)
    scene.entrance.refuse("refused", "no such number")
    results = {"dead": "refused", "taken": "", "resting": "failed"}
    for name, result in zip(
        map("webhook:failed:{}".format, results), results.values(), strict=True
    ):
        assert not isinstance(notices.take(name), str)
        if result:
            notices.settle(name, result, error="", wait_s=60, give_up_s=HOUR)  # type: ignore[arg-type]
    for lane in Lane:
        scene.enter(f"scheduled-{lane}", lane=lane, send_at=time.time() + 60)
    scene.enter("held", on_ambiguous="hold")
    scene.go("held")
    scene.record("held", Outcome.MAYBE_SENT, trouble=True, too_fast=True)
    scene.enter("blocked", phone=OTHER_PHONE)
    scene.go("blocked")
    scene.record("blocked", Outcome.ACCEPTED)
    scene.report("blocked", stat("MA:1", "transient", 1, suppress_ms=60_000, hold_ms=60_000))
    scene.report("blocked", stat("XA:1", "unknown", unlisted=True))
    scene.ledger.report("NOBODY'S", "DELIVRD", DELIVRD)
    scene.ledger.take_in([("MID", "DELIVRD")], wake_after_s=30)
    scene.control.pause(ACCOUNT, "by hand")
    scene.control.resume(ACCOUNT, "by hand")
    scene.control.pause(template_scope(TEMPLATE), "by hand")
    scene.enter("waiting")
    assert scene.stays("waiting") == "deferred"
    keep_campaigns(scene)
    scene.ledger.relay_wait_s("shop", 0.01)  # kept for 100 s
    # What producers keep of verification codes, and move themselves: producer/test_verify.py.
    scene.client.hset(f"{keys.CHALLENGE}name", "at", scene.now_ms())
    scene.client.hset("smsq:lanes", "otp", scene.now_ms())  # as older releases do
    scene.client.zadd(keys.TIMERS, {"odd": 1})
    scene.client.set(keys.message("odd"), "no message")
    for rate in (1, 2):  # as workers of two settings do
        Scene(scene.client, scene.settings, rate_per_s=rate).claim()
    scene.claim()
    scene.client.hset("smsq:clock", "slice", scene.now_ms())  # as a full slice does


def keep_campaigns(scene: Scene) -> None:
    campaigns = Campaigns(scene.client, scene.rules)
    for name in ("over", "slow", "paused", "stopped"):
        scene.enter(name, template="OTHER", lane="notice", campaign=name)
    campaigns.do("rate", "slow", rate=0.01)
    scene.admit("slow")
    campaigns.do("pause", "paused")
    scene.admit("paused")
    scene.client.hset(keys.message("over"), "expires", scene.now_ms() - 1)
    scene.admit("over")
    scene.enter("over2", template="OTHER", lane="notice", campaign="over")
    scene.client.hset(keys.message("over2"), "expires", scene.now_ms() - 1)
    scene.admit("over2")
    for n in range(200):
        scene.enter(f"stopped{n}", template="OTHER", lane="notice", campaign="stopped")
    campaigns.do("cancel", "stopped")


# Turns, window, slow-down


@of_all
def test_calls_go_on_and_at_the_rate(build: Build, steps: Steps) -> None:
    scene = build(rate_per_s=10, rate_burst=1)
    for name in "abc":
        scene.enter(name)
    scene.go("a")
    scene.client.hset(keys.RATE, "tat", scene.now_us() + 300_000)
    take(scene, steps)
    answer = scene.admit("b")
    assert isinstance(answer, Admitted) or answer.seconds < 2
    assert 10 * 0.98 < scene.control.rate().now <= 10
    if isinstance(answer, Admitted):
        following = scene.admit("c")
        assert isinstance(following, RetryLater)
        assert following.seconds < 1


@of_back
def test_what_has_departed_still_counts_in_the_window(build: Build, steps: Steps) -> None:
    scene = build(rate_per_s=5, rate_burst=1)
    scene.calls_departed(*[scene.now_us()] * 7)
    take(scene, steps)
    scene.enter()
    answer = scene.admit()
    assert isinstance(answer, RetryLater)
    assert answer.seconds < 2


@of_back
def test_a_turn_that_was_booked_before_comes_now(build: Build, steps: Steps) -> None:
    scene = build(rate_per_s=10, rate_burst=1)
    scene.enter()
    turn = str(scene.now_us() - sum(steps[-1:]) * 1_000_000)
    take(scene, steps)
    assert isinstance(scene.ledger.admit("m1", turn=turn), Admitted)


@of_back
def test_a_low_rate_is_kept(build: Build, steps: Steps) -> None:
    scene = build(rate_per_s=0.01, rate_burst=1)
    scene.call("a", Outcome.ACCEPTED)
    take(scene, steps)
    scene.enter("b")
    answer = scene.admit("b")
    assert isinstance(answer, RetryLater)
    assert ahead_s(scene, float(scene.client.hget(keys.RATE, "tat") or 0) / 1000) <= 102


@of_back
def test_a_rate_that_was_slowed_down_comes_back_as_before(build: Build, steps: Steps) -> None:
    scene = build(rate_per_s=100, rate_burst=100)
    scene.call("a", Outcome.NOT_SENT, too_fast=True)
    scene.client.hset(keys.RATE, "slow_at", scene.now_ms() - 15_000)
    assert scene.control.rate().now == 60
    take(scene, steps)
    assert scene.control.rate().now in (60, 50)
    scene.call("b", Outcome.NOT_SENT, too_fast=True)
    assert scene.control.rate().now in (30, 25)


# Pauses


@of_all
@pytest.mark.parametrize("scope", [ACCOUNT, BREAKER])
def test_a_probe_departs_as_soon_as_before_and_heals(
    scene: Scene, steps: Steps, scope: str
) -> None:
    trouble = {"trouble": True} if scope == BREAKER else {}
    outcome = Outcome.NOT_SENT if scope == BREAKER else Outcome.REFUSED
    for n in range(5 if scope == BREAKER else 20):
        scene.call(f"bad{n}", outcome, **trouble)
    assert scope in scene.paused()
    scene.enter("otp", lane="otp", ttl_s=2 * HOUR)
    scene.claim()  # a worker's clock has seen the time: the calls may have taken a while
    take(scene, steps)
    assert ahead_s(scene, scene.stored_pause(scope)["probe_at"]) <= 5
    assert scene.probe_is_due(scope).lanes == "probe"
    scene.go("otp")
    scene.record("otp", Outcome.ACCEPTED)
    assert scene.paused() == {}


@of_back
def test_a_probe_in_flight_at_the_step_is_followed_by_another(scene: Scene, steps: Steps) -> None:
    for n in range(5):
        scene.call(f"bad{n}", Outcome.NOT_SENT, trouble=True)
    scene.probe_is_due(BREAKER)
    scene.enter("probe")
    scene.go("probe")
    take(scene, steps)
    scene.record("probe", Outcome.NOT_SENT, trouble=True)
    scene.probe_is_due(BREAKER)
    scene.enter("next")
    scene.go("next")


@of_back
def test_failures_after_the_step_open_the_breaker_and_those_before_a_resumption_do_not(
    scene: Scene, steps: Steps
) -> None:
    scene.control.pause(BREAKER, "by hand")
    scene.control.resume(BREAKER, "by hand")
    for n in range(5):
        scene.enter(f"old{n}")
        scene.go(f"old{n}")
    take(scene, steps)
    for n in range(5):
        scene.record(f"old{n}", Outcome.NOT_SENT, trouble=True)
    for n in range(5):
        assert BREAKER not in scene.paused()
        scene.call(f"new{n}", Outcome.NOT_SENT, trouble=True)
    assert BREAKER in scene.paused()


@of_all
def test_failures_before_the_step_are_forgotten_in_time(scene: Scene, steps: Steps) -> None:
    for n in range(4):
        scene.call(f"bad{n}", Outcome.NOT_SENT, trouble=True)
    take(scene, steps)
    step(scene.client, 61)
    scene.call("later", Outcome.NOT_SENT, trouble=True)
    assert scene.paused() == {}


@of_back
def test_a_template_is_paused_by_reports_of_after_the_step(scene: Scene, steps: Steps) -> None:
    for n in range(30):
        scene.call(f"good{n}", Outcome.ACCEPTED)
        scene.report(f"good{n}", DELIVRD)
    scope = template_scope(TEMPLATE)
    scene.control.pause(scope, "by hand")
    scene.control.resume(scope, "by hand")
    scene.claim()  # A worker's clock has seen the time, however long that took.
    take(scene, steps)
    for n in range(5):
        scene.call(f"bad{n}", Outcome.ACCEPTED)
        scene.report(f"bad{n}", BAD_TEMPLATE)
    assert scope in scene.paused()
    start = float(scene.client.hget(f"smsq:reports:{TEMPLATE}", "start") or 0)
    assert ahead_s(scene, start) <= 0


@of_back
def test_a_report_on_a_call_before_the_step_pauses_no_account(scene: Scene, steps: Steps) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.control.pause(ACCOUNT, "by hand")
    scene.control.resume(ACCOUNT, "topped up")
    take(scene, steps)
    scene.report("m1", NO_BALANCE)
    assert scene.paused() == {}
    scene.call("m2", Outcome.ACCEPTED)
    scene.report("m2", NO_BALANCE)
    assert scene.paused() == {ACCOUNT: "report"}


@of_back
def test_those_who_wait_for_a_template_go_on_when_it_is_resumed(scene: Scene, steps: Steps) -> None:
    scope = template_scope(TEMPLATE)
    scene.control.pause(scope, "by hand")
    scene.enter("m1")
    assert scene.stays("m1") == "deferred"
    take(scene, steps)
    scene.control.resume(scope, "by hand")
    assert scene.woken() == ["m1"]
    scene.go("m1")


# Messages


@of_back
def test_every_timer_runs_out_as_soon_as_it_can_have_been_set(scene: Scene, steps: Steps) -> None:
    for name in ("queued", "old"):
        scene.enter(name, ttl_s=2 * HOUR)
    scene.client.hset(keys.message("old"), "published", scene.now_ms() - 100_000)
    scene.client.zadd(keys.TIMERS, {"old": scene.now_ms() + 100_000})
    scene.enter("sending")
    scene.go("sending")
    scene.call("retried", Outcome.NOT_SENT, wait_s=2)
    scene.call("accepted", Outcome.ACCEPTED)
    scene.call("off", Outcome.ACCEPTED)
    scene.report("off", PHONE_IS_OFF)
    take(scene, steps)
    rules = scene.rules
    most_s = {
        "queued": 30,
        "old": 121,
        "sending": rules.lease_s,
        "retried": 2,
        "accepted": rules.report_wait_s,
        "off": 7200,
    }
    assert {name for name in most_s if ahead_s(scene, scene.timer(name)) > most_s[name]} == set()


@of_back
def test_a_call_in_flight_is_no_doubt_and_a_dead_workers_is(scene: Scene, steps: Steps) -> None:
    scene.enter("m1")
    scene.go("m1")
    take(scene, steps)
    assert scene.state("m1") == "sending"
    assert scene.record("m1", Outcome.ACCEPTED) == "accepted"
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0
    scene.enter("m2")
    scene.go("m2")
    scene.run_out("m2")
    assert scene.state("m2") == "deferred"


def test_a_step_forward_makes_a_doubt_of_a_call_and_its_answer_ends_that(scene: Scene) -> None:
    scene.enter("m1", ttl_s=2 * HOUR)
    scene.go("m1")
    take(scene, (HOUR,))
    assert scene.state("m1") == "deferred"
    assert scene.record("m1", Outcome.ACCEPTED) == "accepted"
    assert scene.woken() == []
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


@of_back
def test_killed_workers_calls_stop_the_others_no_longer_than_their_leases(
    scene: Scene, steps: Steps
) -> None:
    names = [f"m{n}" for n in range(20)]
    slow = Scene(scene.client, scene.settings, rate_per_s=10, rate_burst=100)
    for name in names:
        slow.enter(name)
        slow.go(name)
    take(scene, steps)
    assert max(ahead_s(scene, scene.timer(name)) for name in names) <= scene.rules.lease_s


@of_back
def test_the_ttl_is_what_it_was(scene: Scene, steps: Steps) -> None:
    scene.enter("young", ttl_s=300)
    scene.enter("aged", ttl_s=300)
    for field in ("enqueued", "expires", "published"):
        scene.client.hincrby(keys.message("aged"), field, -15_000)
    take(scene, steps)
    assert 300 - SLOW_S < ttl_left_s(scene, "young") <= 300 + SEEN_S
    assert 285 - SLOW_S < ttl_left_s(scene, "aged") <= 285 + SEEN_S
    assert scene.status("aged").enqueued_at <= datetime.now(UTC) - timedelta(seconds=14)


def test_one_older_than_the_step_lives_longer_by_the_step_at_most(scene: Scene) -> None:
    scene.enter("m1", ttl_s=300)
    for field in ("enqueued", "expires", "published"):
        scene.client.hincrby(keys.message("m1"), field, -100_000)
    take(scene, (-20,))
    assert ttl_left_s(scene, "m1") <= 220 + SEEN_S


@of_all
def test_a_scheduled_message_leaves_at_its_time_by_the_clock_of_then(
    scene: Scene, steps: Steps
) -> None:
    scene.enter("m1", send_at=time.time() + 3 * HOUR, ttl_s=60)
    before = scene.timer("m1"), scene.field("m1", "due"), scene.field("m1", "expires")
    take(scene, steps)
    shift = -1000 * sum(steps)  # what is stored has moved, and not the clock
    assert scene.timer("m1") == before[0] + shift
    assert int(scene.field("m1", "due") or 0) == int(before[1] or 0) + shift
    assert int(scene.field("m1", "expires") or 0) == int(before[2] or 0) + shift
    assert scene.state("m1") == "deferred"


@of_back
def test_a_scheduled_message_that_has_been_tried_is_no_longer_scheduled(
    scene: Scene, steps: Steps
) -> None:
    scene.enter("m1", send_at=time.time() + 60, ttl_s=60)
    for field in ("due", "expires"):
        scene.client.hincrby(keys.message("m1"), field, -61_000)
    assert scene.run_out("m1") == ["m1"]
    scene.go("m1")
    scene.record("m1", Outcome.NOT_SENT, wait_s=5)
    take(scene, steps)
    assert ahead_s(scene, scene.timer("m1")) <= 5
    assert ttl_left_s(scene, "m1") <= 60 + SEEN_S


@of_back
def test_no_wake_up_is_taken_for_lost_because_of_a_step(scene: Scene, steps: Steps) -> None:
    for name in ("a", "b", "c"):
        scene.enter(name)
    scene.go("a")
    take(scene, steps)
    scene.enter("d")
    scene.go("b")
    for _ in range(3):
        for name in ("c", "d"):
            scene.client.zadd(keys.TIMERS, {name: LONG_AGO}, xx=True)
        assert scene.woken() == []
    scene.go("d")
    for _ in range(2):  # a later one has been admitted before it: that is another matter
        assert "d" not in scene.run_out("c")


@of_back
def test_a_held_message_can_be_resent_and_not_for_longer(scene: Scene, steps: Steps) -> None:
    scene.enter("m1", on_ambiguous="hold", ttl_s=100)
    scene.go("m1")
    scene.record("m1", Outcome.MAYBE_SENT)
    take(scene, steps)
    assert ttl_left_s(scene, "m1") <= 100 + SEEN_S
    ((_, since),) = scene.ledger.held(10)
    assert since <= datetime.now(UTC) + timedelta(seconds=1)
    assert scene.ledger.decide("m1", "resend") == ("done", "deferred")
    assert scene.woken() == ["m1"]


def test_messages_are_looked_through_in_slices_while_others_go_on(scene: Scene) -> None:
    names = [f"m{n}" for n in range(1200)]
    for name in names:
        scene.enter(name, ttl_s=100)
    step(scene.client, -HOUR)
    assert scene.claim().more
    scene.enter("otp", lane="otp")
    scene.go("otp")
    while scene.client.hexists("smsq:clock", "timers"):
        scene.claim()
    assert (scene.claim().next_s or 0) > 0
    assert max(ahead_s(scene, scene.timer(name)) for name in names) <= 30
    assert max(ttl_left_s(scene, name) for name in names) <= 100 + SEEN_S


def test_the_step_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    step(scene.client, -20)
    scene.enter()
    scene.go()
    scene.claim()
    scene.claim()
    told = [one.getMessage() for one in caplog.records if "set back" in one.getMessage()]
    assert len(told) == 1
    assert re.fullmatch(
        r"the clock of Redis' server was set back by (19|20)\.\d s or more", told[0]
    )


def test_a_ledger_that_was_set_back_before_this_release_goes_on(scene: Scene) -> None:
    for n in range(5):
        scene.call(f"bad{n}", Outcome.NOT_SENT, trouble=True, too_fast=True)
    scene.enter("m1", ttl_s=300)
    scene.client.delete("smsq:clock")  # which earlier ones do not write
    take(scene, (-HOUR,))
    assert ahead_s(scene, scene.stored_pause(BREAKER)["probe_at"]) <= 5
    assert ahead_s(scene, scene.timer("m1")) <= 30
    assert ahead_s(scene, float(scene.client.hget(keys.RATE, "slow_at") or 0)) <= 0


def test_what_cannot_be_understood_stops_nothing(scene: Scene) -> None:
    scene.client.hset(keys.PAUSES, template_scope("SMS_9"), "no pause")
    scene.client.hset("smsq:receivers", "webhook", "no rest")
    scene.enter("m1")
    scene.client.hset(keys.message("m1"), "enqueued", "no time")
    scene.client.hdel(keys.PAUSES, template_scope("SMS_9"))
    scene.enter("m2", ttl_s=100)
    take(scene, (-HOUR,))
    assert ahead_s(scene, scene.timer("m2")) <= 30
    scene.go("m2")


# Numbers


@of_back
def test_a_number_is_not_refused_for_what_was_long_ago(build: Build, steps: Steps) -> None:
    scene = build(phone_limits=(PhoneLimit(1, 60), PhoneLimit(3, HOUR)))
    scene.enter("first", lane="otp")
    scene.go("first")
    (sent,) = scene.client.keys("smsq:sent:*")
    long_ago = scene.now_ms() - (15_000 if sum(steps) == -20 else 600_000)
    scene.client.lset(sent, 0, long_ago)
    take(scene, steps)
    scene.enter("second", lane="otp")
    if sum(steps) == -20:  # a quarter of a minute is not a minute
        assert scene.stays("second") == "ended"
        allowed = scene.status("second").allowed_at
        assert allowed is not None
        assert allowed <= datetime.now(UTC) + timedelta(seconds=46)
    else:
        scene.go("second")


@of_back
def test_suppression_holds(scene: Scene, steps: Steps) -> None:
    scene.control.suppress("13800138000", "asked to", datetime.now(UTC) + timedelta(days=2))
    take(scene, steps)
    scene.enter()
    assert scene.stays() == "ended"
    assert scene.status().reason == "local:suppressed"


# Reports, outcomes, the relay


@of_all
def test_a_report_is_woken_up_again_in_time(scene: Scene, steps: Steps) -> None:
    scene.ledger.take_in([("MID", "DELIVRD")], wake_after_s=30)
    step(scene.client, sum(steps[-1:]))
    scene.ledger.claim_reports(wake_after_s=30)
    ((_, at),) = scene.client.zrange(keys.INBOX, 0, -1, withscores=True)
    assert ahead_s(scene, at) <= 30


@of_back
def test_an_outcome_is_told_as_soon_as_before(build: Build, steps: Steps) -> None:
    scene = build(webhook=True)
    notices = Callbacks(scene.client, scene.rules)
    for name in ("m1", "m2"):
        scene.call(name, Outcome.REFUSED)
        assert not isinstance(notices.take(f"webhook:failed:{name}"), str)
    notices.settle("webhook:failed:m1", "failed", error="", wait_s=60, give_up_s=HOUR)
    take(scene, steps)
    assert notices.claim(10) == []  # Their endpoint is in backoff, as long as before.
    assert notices.take("webhook:failed:m1") == "wait"
    for name in ("m1", "m2"):
        at = scene.client.zscore(keys.NOTICES, f"webhook:failed:{name}") or 0
        assert ahead_s(scene, at) <= 60 + SLOW_S
    # It is being told, or whoever did is dead.
    assert notices.take("webhook:failed:m2") == "copy"
    taken = float(scene.client.hget("smsq:o:failed:m2", "webhook:taken") or 0)
    assert ahead_s(scene, taken) <= 0


@of_all
def test_a_caller_of_the_relay_has_its_rate(scene: Scene, steps: Steps) -> None:
    ledger = scene.ledger
    assert ledger.relay_wait_s("shop", 1) == 0
    take(scene, steps)
    assert ledger.relay_wait_s("shop", 1) <= 2


@of_back
def test_an_end_of_before_its_beginning_is_readable(scene: Scene, steps: Steps) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    take(scene, steps)
    scene.report("m1", DELIVRD)
    status = scene.status("m1")
    assert status.state == "delivered"
    assert status.finished_at is not None
    assert abs(status.finished_at - datetime.now(UTC)) < timedelta(seconds=SLOW_S)
