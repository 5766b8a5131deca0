"""What is kept by number: limits for otp, the gateway's own limit, suppression."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from harness.scene import DELIVRD, LONG_AGO, OTHER_PHONE, PHONE, Scene, stat
from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.contract import Lane, State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.limits import phone_limits
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Rejected, RetryLater
from smsq_worker.ledger.suppressed import SuppressedCounter

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
BLACKLISTED = stat("MA:0001", "permanent", suppress_ms=180 * DAY)
TOO_MANY = stat("MA:0022", "transient", 1800, hold_ms=HOUR // 2)
SENT = f"smsq:sent:{keys.phone_hash(PHONE)}"
HOLD = f"smsq:hold:{keys.phone_hash(PHONE)}"
TOMORROW = datetime.now(UTC) + timedelta(days=1)

Build = Callable[..., Scene]


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    return lambda **rules: Scene(client, settings, **rules)


@pytest.fixture
def scene(build: Build) -> Scene:
    return build()


def otp(scene: Scene, name: str, **options: Any) -> Admitted | RetryLater | Rejected:
    scene.enter(name, lane="otp", **options)
    return scene.admit(name)


def sent_ago(scene: Scene, *ages_ms: int) -> int:
    """Have otp messages sent to the number so long ago; give the server's time in ms."""
    now = scene.now_ms()
    scene.client.delete(SENT)
    scene.client.rpush(SENT, *[now - age for age in sorted(ages_ms)])
    return now


def too_often(scene: Scene, name: str, allowed_ms: float) -> None:
    status = scene.status(name)
    assert (status.state, status.reason) == ("failed", "local:frequency")
    assert status.allowed_at == datetime.fromtimestamp(allowed_ms / 1000, UTC)
    assert status.attempts == ()


# Limits


def test_a_second_otp_within_the_minute_fails_and_says_when_it_would_be_allowed(
    scene: Scene,
) -> None:
    assert isinstance(otp(scene, "m1"), Admitted)
    assert otp(scene, "m2") == Rejected("ended", State.FAILED)
    too_often(scene, "m2", int(str(scene.field("m1", "1:at"))) + MINUTE)


@pytest.mark.parametrize(
    ("ages_ms", "allowed_in_ms"),
    [
        pytest.param([MINUTE // 2], MINUTE // 2, id="the minute's"),
        pytest.param([2 * MINUTE * n for n in range(1, 6)], HOUR - 10 * MINUTE, id="the hour's"),
        pytest.param([2 * HOUR * n for n in range(1, 11)], DAY - 20 * HOUR, id="the day's"),
        pytest.param(
            [MINUTE // 2, *(2 * MINUTE * n for n in range(1, 5))], HOUR - 8 * MINUTE, id="two"
        ),
    ],
)
def test_each_limit_counts_and_the_longest_wait_is_told(
    scene: Scene, ages_ms: list[int], allowed_in_ms: int
) -> None:
    now = sent_ago(scene, *ages_ms)
    otp(scene, "m1")
    too_often(scene, "m1", now + allowed_in_ms)


@pytest.mark.parametrize(
    "ages_ms",
    [
        [MINUTE],
        [2 * MINUTE * n for n in range(1, 5)],
        [2 * MINUTE, 4 * MINUTE, 6 * MINUTE, 8 * MINUTE, HOUR],
        [2 * HOUR * n for n in range(1, 10)],
        [2 * HOUR * n for n in range(1, 10)] + [DAY],
    ],
)
def test_what_is_within_all_limits_goes(scene: Scene, ages_ms: list[int]) -> None:
    sent_ago(scene, *ages_ms)
    assert isinstance(otp(scene, "m1"), Admitted)


def test_the_limits_are_the_settings(build: Build) -> None:
    scene = build(phone_limits=phone_limits("2/3600"))
    assert isinstance(otp(scene, "m1"), Admitted)
    assert isinstance(otp(scene, "m2"), Admitted)
    otp(scene, "m3")
    too_often(scene, "m3", int(str(scene.field("m1", "1:at"))) + HOUR)


def test_what_is_kept_of_a_number_is_bounded(scene: Scene) -> None:
    sent_ago(scene, *[2 * DAY + n for n in range(30)])
    otp(scene, "m1")
    assert scene.client.llen(SENT) == 10
    assert DAY - MINUTE < scene.client.pttl(SENT) <= DAY


def test_other_numbers_and_other_lanes_are_not_hit(scene: Scene) -> None:
    otp(scene, "m1")
    assert isinstance(otp(scene, "m2", phone=OTHER_PHONE), Admitted)
    for name, lane in (("m3", "notice"), ("m4", "bulk"), ("m5", "notice")):
        scene.enter(name, lane=lane)
        scene.go(name)
    assert scene.client.llen(SENT) == 1


def test_without_limits_every_otp_goes(build: Build) -> None:
    scene = build(phone_limits=())
    for n in range(20):
        assert isinstance(otp(scene, f"m{n}"), Admitted)
    assert not scene.client.exists(SENT)


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.MAYBE_SENT])
def test_retries_and_resends_of_a_message_count_once(scene: Scene, outcome: Outcome) -> None:
    otp(scene, "m1")
    for attempt in (2, 3):
        scene.record("m1", outcome)
        assert scene.run_out() == ["m1"]
        assert scene.go() == attempt
    assert scene.client.llen(SENT) == 1


def test_of_two_messages_at_once_one_goes(scene: Scene) -> None:
    for name in ("m1", "m2"):
        scene.enter(name, lane="otp")
    # Both have waited for a turn, and both turns have come.
    assert isinstance(scene.admit("m2", booked=True), Admitted)
    assert isinstance(scene.admit("m1", booked=True), Rejected)
    too_often(scene, "m1", int(str(scene.field("m2", "1:at"))) + MINUTE)


def test_a_message_that_only_waits_for_its_turn_counts_for_nothing(build: Build) -> None:
    scene = build(rate_per_s=0.001, rate_burst=1)
    scene.enter("first")
    scene.go("first")
    assert isinstance(otp(scene, "m1"), RetryLater)
    assert not scene.client.exists(SENT)


# The gateway's own limit


def test_the_gateways_limit_holds_the_number_back(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    before = scene.now_ms()
    scene.report("m1", TOO_MANY)
    until = int(str(scene.client.get(HOLD)))
    assert before + HOUR // 2 <= until <= scene.now_ms() + HOUR // 2
    assert 0 < scene.client.pttl(HOLD) <= HOUR // 2
    scene.enter("m2")
    assert scene.stays("m2") == "deferred"
    assert (scene.timer("m2"), scene.used_up("m2")) == (until, (None, None))
    scene.enter("other", phone=OTHER_PHONE)
    scene.go("other")
    # The half hour is over.
    scene.client.set(HOLD, LONG_AGO)
    assert scene.run_out("m2") == ["m2"]
    scene.go("m2")


def test_a_message_that_cannot_wait_so_long_fails_at_once(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", TOO_MANY)
    scene.enter("m2", ttl_s=300)
    assert scene.stays("m2") == "ended"
    too_often(scene, "m2", int(str(scene.client.get(HOLD))))


def test_the_message_itself_is_resent_when_the_hold_is_over(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", TOO_MANY)
    assert scene.state() == "deferred"
    assert scene.timer() >= int(str(scene.client.get(HOLD)))
    assert scene.used_up() == ("1", "1")


# Suppression


def test_a_report_suppresses_the_number_for_the_codes_time(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    before = scene.now_ms()
    scene.report("m1", BLACKLISTED)
    (found,) = scene.control.suppressed()
    assert (found.phone, found.reason) == (PHONE, "MA:0001")
    assert before <= found.since.timestamp() * 1000 <= scene.now_ms()
    assert found.until - found.since == timedelta(days=180)
    scene.enter("m2")
    assert scene.stays("m2") == "ended"
    status = scene.status("m2")
    assert (status.state, status.reason) == ("failed", "local:suppressed")
    assert status.detail == "suppressed: MA:0001"


def test_an_early_report_suppresses_too(scene: Scene) -> None:
    scene.enter()
    scene.go()
    scene.report("m1", BLACKLISTED)
    assert list(scene.control.suppressed()) == []
    scene.record("m1", Outcome.ACCEPTED)
    assert [found.phone for found in scene.control.suppressed()] == [PHONE]


def test_a_report_of_an_older_attempt_suppresses_as_well(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", TOO_MANY)
    scene.client.delete(HOLD)
    scene.run_out()
    scene.go()
    scene.ledger.report("MID-m1-1", "MA:0001", BLACKLISTED)
    assert [found.phone for found in scene.control.suppressed()] == [PHONE]
    assert scene.state() == "sending"


def test_a_suppressed_number_costs_neither_a_call_nor_a_turn(build: Build) -> None:
    scene = build(rate_per_s=0.001, rate_burst=1)
    scene.enter("first", phone=OTHER_PHONE)
    scene.go("first")
    rate, calls = scene.client.hgetall(keys.RATE), scene.client.zcard(keys.CALLS)
    scene.control.suppress(PHONE, "asked us to stop", TOMORROW)
    scene.control.pause("account", "by hand")
    scene.enter("m1", lane="otp")
    assert scene.stays("m1") == "ended"
    assert scene.status().reason == "local:suppressed"
    assert scene.status().attempts == ()
    assert scene.client.hgetall(keys.RATE) == rate
    assert scene.client.zcard(keys.CALLS) == calls
    assert not scene.client.exists(SENT)


@pytest.mark.parametrize("lane", Lane)
def test_a_campaigns_blacklist_does_not_block_a_login_code(scene: Scene, lane: Lane) -> None:
    in_bulk = replace(BLACKLISTED, suppress_lanes=(Lane.BULK,))
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", in_bulk)
    scene.enter("m2", lane=lane)
    if lane is not Lane.BULK:
        scene.go("m2")
        return
    assert scene.stays("m2") == "ended"
    status = scene.status("m2")
    assert (status.reason, status.detail) == ("local:suppressed", "suppressed: MA:0001 (lane bulk)")


def test_the_longer_suppression_counts_in_each_lane_and_an_operator_may_shorten_it(
    scene: Scene,
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    in_bulk = replace(BLACKLISTED, suppress_lanes=(Lane.BULK,))
    scene.control.suppress(PHONE, "wrong number", TOMORROW)
    scene.report("m1", in_bulk)
    assert reasons(scene) == {("wrong number", "otp notice"), ("MA:0001", "bulk")}
    # What releases before 0.3.0 read, and hold for every lane, is what lasts longest.
    assert suppression(scene)["reason"] == "MA:0001"

    soon = datetime.now(UTC) + timedelta(hours=1)
    scene.control.suppress(PHONE, "mistaken", soon, [Lane.BULK])
    assert reasons(scene) == {("wrong number", "otp notice"), ("mistaken", "bulk")}
    scene.control.unsuppress(PHONE, [Lane.OTP])
    assert reasons(scene) == {("wrong number", "notice"), ("mistaken", "bulk")}
    scene.control.suppress(PHONE, "for all", TOMORROW)
    assert reasons(scene) == {("for all", "otp notice bulk")}
    assert set(suppression(scene)) == {"phone", "reason", "since", "until"}


def test_a_report_does_not_shorten_what_an_operator_has_suppressed(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    for_long = datetime.now(UTC) + timedelta(days=3650)
    scene.control.suppress(PHONE, "asked us to stop", for_long)
    scene.report("m1", BLACKLISTED)
    assert reasons(scene) == {("asked us to stop", "otp notice bulk")}


def test_suppression_ends_in_time_in_each_lane(scene: Scene) -> None:
    scene.control.suppress(PHONE, "no advertisements", TOMORROW, [Lane.BULK])
    scene.control.suppress(PHONE, "for an hour", TOMORROW, [Lane.NOTICE])
    stored = suppression(scene)
    stored["lanes"]["notice"]["until"] = LONG_AGO
    scene.client.hset(keys.SUPPRESSED, keys.phone_hash(PHONE), json.dumps(stored))
    assert reasons(scene) == {("no advertisements", "bulk")}
    scene.enter("m1", lane="notice")
    scene.go("m1")
    scene.enter("m2", lane="bulk")
    assert scene.stays("m2") == "ended"


def test_what_an_older_release_suppressed_holds_in_every_lane(scene: Scene) -> None:
    until = scene.now_ms() + DAY
    entry = {"phone": PHONE, "reason": "MA:0001", "since": LONG_AGO, "until": until}
    scene.client.hset(keys.SUPPRESSED, keys.phone_hash(PHONE), json.dumps(entry))
    assert reasons(scene) == {("MA:0001", "otp notice bulk")}
    scene.control.unsuppress(PHONE, [Lane.OTP])
    for lane, goes in ((Lane.OTP, True), (Lane.BULK, False)):
        scene.enter(lane, lane=lane)
        assert isinstance(scene.admit(lane), Admitted) == goes


def test_a_list_with_lanes_is_taken_over_as_it_is(scene: Scene) -> None:
    scene.control.suppress(PHONE, "no advertisements", TOMORROW, [Lane.BULK])
    scene.control.suppress(PHONE, "wrong number", TOMORROW, [Lane.OTP])
    before = list(scene.control.suppressed())
    assert len(before) == 2
    scene.control.unsuppress(PHONE)
    assert scene.control.take_over(before) == 1
    assert list(scene.control.suppressed()) == before


def suppression(scene: Scene) -> dict[str, Any]:
    """Give the entry of the number as it is stored."""
    found: dict[str, Any] = json.loads(
        str(scene.client.hget(keys.SUPPRESSED, keys.phone_hash(PHONE)))
    )
    return found


def reasons(scene: Scene) -> set[tuple[str, str]]:
    return {(row.reason, " ".join(row.lanes)) for row in scene.control.suppressed()}


def test_suppression_by_hand_ends_by_hand(scene: Scene) -> None:
    scene.control.suppress(PHONE, "asked us to stop", TOMORROW)
    scene.enter("other", phone=OTHER_PHONE)
    scene.go("other")
    scene.enter("m1")
    scene.stays("m1")
    assert scene.status().detail == "suppressed: asked us to stop"
    assert scene.control.unsuppress(PHONE)
    assert not scene.control.unsuppress(PHONE)
    scene.enter("m2")
    scene.go("m2")


def test_suppression_ends_in_time(scene: Scene) -> None:
    scene.control.suppress(PHONE, "for now", TOMORROW)
    stored = json.loads(str(scene.client.hget(keys.SUPPRESSED, keys.phone_hash(PHONE))))
    expired = json.dumps(stored | {"until": LONG_AGO})
    scene.client.hset(keys.SUPPRESSED, keys.phone_hash(PHONE), expired)
    assert list(scene.control.suppressed()) == []
    scene.enter()
    scene.go()
    assert not scene.client.exists(keys.SUPPRESSED)


def test_a_list_is_taken_over_as_it_is(scene: Scene) -> None:
    scene.control.suppress(PHONE, "for now", TOMORROW)
    before = list(scene.control.suppressed())
    scene.control.unsuppress(PHONE)
    assert scene.control.take_over(before) == 1
    assert list(scene.control.suppressed()) == before


def test_a_message_under_way_when_its_number_is_suppressed_goes_on(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.control.suppress(PHONE, "for now", TOMORROW)
    assert scene.report("m1", DELIVRD) == "delivered"


def test_a_message_from_before_numbers_were_known_goes(scene: Scene) -> None:
    """One that an older version entered has no `who`."""
    scene.control.suppress(PHONE, "for now", TOMORROW)
    scene.client.set(HOLD, scene.now_ms() + HOUR)
    sent_ago(scene, 1)
    for name in ("m1", "m2"):
        scene.enter(name, lane="otp")
        scene.client.hdel(keys.message(name), "who")
        scene.go(name)
    scene.record("m1", Outcome.ACCEPTED)
    scene.control.unsuppress(PHONE)
    assert scene.report("m1", BLACKLISTED) == "failed"
    assert list(scene.control.suppressed()) == []


def test_a_report_that_an_older_version_parked_is_applied(scene: Scene) -> None:
    scene.enter()
    scene.go()
    old = {"stat": "MA:0003", "class": "transient", "wait_ms": 60_000, "maybe_sent": False}
    scene.client.rpush(keys.early("MID-m1-1"), json.dumps(old))
    assert scene.record("m1", Outcome.ACCEPTED) == "deferred"


def test_a_final_message_does_not_show_whom_it_went_to(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    assert scene.field("m1", "who") is None


def test_a_malformed_entry_does_not_keep_others_from_being_counted(scene: Scene) -> None:
    for phone in (PHONE, OTHER_PHONE):
        scene.control.suppress(phone, "operator", TOMORROW)
    counter = SuppressedCounter(scene.client, scene.settings.redis_url, PlaintextCipher())
    for phone in (PHONE, OTHER_PHONE):
        counter.add(phone, Lane.BULK)
    scene.client.hset(keys.SUPPRESSED, keys.phone_hash(PHONE), "no JSON")
    assert counter.count() == 1
