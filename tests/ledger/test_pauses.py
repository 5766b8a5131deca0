"""Pauses of the account, of a template, and after an outage: how they begin, hold and end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from harness.campaigns import release
from harness.scene import (
    BAD_TEMPLATE,
    DELIVRD,
    LONG_AGO,
    NO_BALANCE,
    OTHER_PHONE,
    PHONE,
    PHONE_IS_OFF,
    TEMPLATE,
    Scene,
    stat,
)
from harness.scopes import template_scope
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.domain.limits import Breaker, template_pauses
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, RetryLater
from smsq_worker.ledger.admin import ACCOUNT, BREAKER
from smsq_worker.ledger.campaigns import Campaigns

OF_TEMPLATE = template_scope(TEMPLATE)
OTHER = "SMS_2002"


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    return Scene(client, settings, breaker=Breaker(10, 50, 60))


def call_all(scene: Scene, names: list[str], outcome: Outcome, **more: Any) -> None:
    for name in names:
        scene.call(name, outcome, **more)


def some(count: int, of: str = "m") -> list[str]:
    return [f"{of}{n}" for n in range(count)]


def calls_fail(scene: Scene, count: int, of: str = "bad") -> None:
    call_all(scene, some(count, of), Outcome.NOT_SENT, trouble=True, detail="no connection")


def waits_unspent(scene: Scene, name: str) -> None:
    """The message was asked for, is told of the pause, and has used up nothing."""
    before = scene.client.hgetall(keys.message(name)), scene.timer(name)
    rate, calls = scene.client.hgetall(keys.RATE), scene.client.zcard(keys.CALLS)
    assert scene.stays(name) == "paused"
    assert (scene.client.hgetall(keys.message(name)), scene.timer(name)) == before
    assert (scene.client.hgetall(keys.RATE), scene.client.zcard(keys.CALLS)) == (rate, calls)


# What all pauses have in common


@pytest.mark.parametrize("scope", [ACCOUNT, BREAKER])
def test_while_paused_nothing_goes_and_nothing_is_used_up(scene: Scene, scope: str) -> None:
    scene.enter("m1", lane="otp")
    scene.call("doubted", Outcome.MAYBE_SENT)
    assert scene.run_out("doubted") == ["doubted"]
    scene.control.pause(scope, "by hand")
    for name in ("m1", "doubted"):
        waits_unspent(scene, name)
    assert scene.claim().lanes == "closed"
    assert scene.control.resume(scope, "by hand")
    assert scene.claim().lanes == "open"
    scene.go("m1")
    assert scene.go("doubted") == 2
    scene.check_live("m1", "doubted")


def test_a_ttl_ends_during_a_pause(scene: Scene) -> None:
    scene.enter("m1")
    scene.control.pause(ACCOUNT, "by hand")
    scene.run_out_of_ttl("m1")
    assert scene.state("m1") == "expired"


def test_reports_go_on_during_a_pause(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.control.pause(ACCOUNT, "by hand")
    assert scene.report("m1", DELIVRD) == "delivered"
    assert scene.paused() == {ACCOUNT: "operator"}


@pytest.mark.parametrize("scope", [ACCOUNT, BREAKER, OF_TEMPLATE])
def test_an_operators_pause_has_no_probe_and_no_other_replaces_it(scene: Scene, scope: str) -> None:
    assert scene.control.pause(scope, "for the night")
    assert not scene.control.pause(scope, "once more")
    (pause,) = scene.control.pauses()
    assert (pause.cause, pause.detail, pause.probe_at) == ("operator", "for the night", None)
    scene.probe_is_due(scope)
    assert "permit" not in scene.stored_pause(scope)
    assert scene.control.resume(scope, "by hand")
    assert not scene.control.resume(scope, "by hand")


def test_an_operators_pause_is_not_healed(scene: Scene) -> None:
    scene.enter("m1")
    scene.go("m1")
    for scope in (ACCOUNT, BREAKER, OF_TEMPLATE):
        scene.control.pause(scope, "by hand")
        stored = scene.stored_pause(scope) | {"since": LONG_AGO}
        scene.client.hset(keys.PAUSES, scope, json.dumps(stored))
    scene.record("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    assert len(scene.paused()) == 3


def test_an_operators_pause_replaces_one_with_a_probe(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    scene.probe_is_due(ACCOUNT)
    assert scene.control.pause(ACCOUNT, "by hand")
    assert scene.paused() == {ACCOUNT: "operator"}
    scene.enter("m2")
    waits_unspent(scene, "m2")
    assert scene.claim().lanes == "closed"


def test_a_probe_needs_the_permit_of_every_pause(scene: Scene) -> None:
    calls_fail(scene, 10)
    scene.control.pause(ACCOUNT, "by hand")
    assert scene.probe_is_due(BREAKER).lanes == "closed"
    scene.enter("m1")
    waits_unspent(scene, "m1")
    scene.control.resume(ACCOUNT, "by hand")
    assert scene.claim().lanes == "probe"
    scene.go("m1")


def test_a_permit_that_nobody_used_stays_and_is_one(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    scene.probe_is_due(ACCOUNT)
    permit = scene.stored_pause(ACCOUNT)["permit"]
    assert scene.probe_is_due(ACCOUNT).lanes == "probe"
    assert scene.stored_pause(ACCOUNT)["permit"] == permit
    for name in ("m2", "m3"):
        scene.enter(name)
    scene.go("m2")
    waits_unspent(scene, "m3")


# The account


def test_a_report_pauses_the_account_and_its_message_waits_unspent(scene: Scene) -> None:
    call_all(scene, ["m1", "m2"], Outcome.ACCEPTED)
    before = scene.now_ms()
    assert scene.report("m1", NO_BALANCE) == "deferred"
    (pause,) = scene.control.pauses()
    assert (pause.scope, pause.cause, pause.detail) == (ACCOUNT, "report", "MA:0015")
    assert pause.probe_at is not None
    assert (pause.probe_at - pause.since).total_seconds() == scene.rules.probe_s
    assert scene.used_up("m1") == ("1", None)
    assert before + 60_000 <= scene.timer("m1") <= scene.now_ms() + 60_000
    scene.report("m2", NO_BALANCE)
    assert len(scene.control.pauses()) == 1


def test_a_message_that_waited_for_the_account_can_wait_for_it_many_times(scene: Scene) -> None:
    scene.enter("m1")
    for attempt in range(1, 6):
        scene.go("m1")
        scene.record("m1", Outcome.ACCEPTED)
        assert scene.report("m1", NO_BALANCE) == "deferred"
        assert scene.used_up("m1") == (str(attempt), None)
        scene.control.resume(ACCOUNT, "paid")
        assert scene.run_out("m1") == ["m1"]
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


def test_what_waited_for_the_account_till_its_end_failed_by_the_report(scene: Scene) -> None:
    """It was accepted once, so that it did not expire unsent is all that is certain."""
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.run_out("m1")
    scene.go("m1")
    scene.record("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    scene.run_out_of_ttl("m1")
    assert (scene.state("m1"), scene.status("m1").reason) == ("failed", "report:MA:0015")


@pytest.mark.parametrize("answer", [DELIVRD, PHONE_IS_OFF])
def test_a_probe_whose_report_says_otherwise_heals_the_account(scene: Scene, answer: Any) -> None:
    call_all(scene, ["m1", "slow"], Outcome.ACCEPTED)
    scene.began_long_ago("slow")
    scene.report("m1", NO_BALANCE)
    for name in ("m2", "m3"):
        scene.enter(name)
        waits_unspent(scene, name)
    assert scene.probe_is_due(ACCOUNT).lanes == "probe"
    scene.go("m2")
    waits_unspent(scene, "m3")
    assert scene.claim().lanes == "closed"
    scene.report("slow", DELIVRD)  # its call was begun before
    scene.record("m2", Outcome.ACCEPTED)
    assert scene.paused() == {ACCOUNT: "report"}
    scene.report("m2", answer)
    assert scene.paused() == {}
    scene.go("m3")


def test_a_probe_that_comes_to_the_same_leaves_the_pause(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    scene.enter("m2")
    scene.probe_is_due(ACCOUNT)
    scene.go("m2")
    scene.record("m2", Outcome.ACCEPTED)
    assert scene.report("m2", NO_BALANCE) == "deferred"
    assert scene.paused() == {ACCOUNT: "report"}
    assert scene.probe_is_due(ACCOUNT).lanes == "probe"


def test_a_probe_whose_worker_died_is_followed_by_another(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    for name in ("m2", "m3"):
        scene.enter(name)
    scene.probe_is_due(ACCOUNT)
    scene.go("m2")
    scene.probe_is_due(ACCOUNT)
    scene.go("m3")


def test_a_stale_report_does_not_pause_again(scene: Scene) -> None:
    call_all(scene, ["m1", "m2"], Outcome.ACCEPTED)
    scene.report("m1", NO_BALANCE)
    scene.control.resume(ACCOUNT, "paid")
    scene.began_long_ago("m2")
    assert scene.report("m2", NO_BALANCE) == "deferred"
    assert (scene.paused(), scene.used_up("m2")) == ({}, ("1", None))
    scene.call("m3", Outcome.ACCEPTED)
    scene.report("m3", NO_BALANCE)
    assert scene.paused() == {ACCOUNT: "report"}


def test_twenty_refusals_in_a_row_pause_the_account_and_exactly_they_failed(scene: Scene) -> None:
    under_way = ["late1", "late2", "late3"]
    for name in under_way:
        scene.enter(name)
        scene.go(name)
    call_all(scene, some(20), Outcome.REFUSED)
    (pause,) = scene.control.pauses()
    assert (pause.scope, pause.cause) == (ACCOUNT, "refusals")
    for name in under_way:
        assert scene.record(name, Outcome.REFUSED) == "deferred"
        assert scene.used_up(name) == ("1", None)
    assert scene.ledger.counters()["messages:notice:failed"] == 20
    scene.check_live(*under_way, *some(20))


def test_nineteen_refusals_and_a_success_pause_nothing(scene: Scene) -> None:
    for turn in range(3):
        call_all(scene, some(19, f"bad{turn}-"), Outcome.REFUSED)
        scene.call(f"good{turn}", Outcome.ACCEPTED)
    assert scene.paused() == {}


def test_what_is_neither_refused_nor_accepted_neither_counts_nor_resets(scene: Scene) -> None:
    call_all(scene, some(19), Outcome.REFUSED)
    scene.call("unsure", Outcome.MAYBE_SENT)
    scene.call("unsent", Outcome.NOT_SENT)
    assert scene.paused() == {}
    scene.call("last", Outcome.REFUSED)
    assert scene.paused() == {ACCOUNT: "refusals"}


def test_a_refused_probe_waits_and_an_accepted_one_heals(scene: Scene) -> None:
    call_all(scene, some(20), Outcome.REFUSED)
    for name in ("p1", "p2", "p3"):
        scene.enter(name)
    scene.probe_is_due(ACCOUNT)
    scene.go("p1")
    assert scene.record("p1", Outcome.REFUSED) == "deferred"
    assert scene.paused() == {ACCOUNT: "refusals"}
    scene.probe_is_due(ACCOUNT)
    scene.go("p2")
    scene.record("p2", Outcome.ACCEPTED)
    assert scene.paused() == {}
    scene.go("p3")
    assert scene.record("p3", Outcome.REFUSED) == "failed"  # the count began anew


def test_refusals_of_calls_begun_before_the_resumption_count_for_nothing(scene: Scene) -> None:
    under_way = some(30, "old")
    for name in under_way:
        scene.client.hdel(keys.RATE, "unanswered")
        scene.enter(name)
        scene.go(name)
        scene.began_long_ago(name)
    call_all(scene, some(20), Outcome.REFUSED)
    scene.control.resume(ACCOUNT, "the secret is right now")
    for name in under_way:
        scene.record(name, Outcome.REFUSED)
    assert scene.paused() == {}


def test_an_excused_refusal_is_no_doubt(scene: Scene) -> None:
    """What was counted as a possible duplicate is not counted once more."""
    scene.call("m1", Outcome.MAYBE_SENT)
    scene.run_out("m1")
    scene.go("m1")
    scene.control.pause(ACCOUNT, "by hand")
    assert scene.record("m1", Outcome.REFUSED) == "deferred"
    scene.control.resume(ACCOUNT, "by hand")
    scene.run_out("m1")
    scene.go("m1")
    assert scene.ledger.counters()["possible_duplicates"] == 1


# The breaker


def test_the_breaker_opens_at_its_number_of_failed_calls(scene: Scene) -> None:
    calls_fail(scene, 9)
    assert scene.paused() == {}
    scene.call("last", Outcome.MAYBE_SENT, trouble=True, detail="http 502")
    (pause,) = scene.control.pauses()
    assert (pause.scope, pause.cause, pause.detail) == (BREAKER, "outage", "http 502")


def test_the_breaker_opens_at_its_share_of_the_last_calls(scene: Scene) -> None:
    for n in range(9):
        call_all(scene, some(2, f"good{n}-"), Outcome.ACCEPTED)
        calls_fail(scene, 1, f"bad{n}-")
    calls_fail(scene, 3, "more")
    assert scene.paused() == {}, "of the last 20 calls 9 failed"
    calls_fail(scene, 1, "last")
    assert scene.paused() == {BREAKER: "outage"}


@pytest.mark.parametrize(("outcome", "share"), [(Outcome.NOT_SENT, 1), (Outcome.MAYBE_SENT, 1 / 2)])
def test_an_outage_that_leaves_doubts_halves_the_rate_once(
    scene: Scene, outcome: Outcome, share: float
) -> None:
    limit = scene.control.rate().limit
    call_all(scene, some(9), outcome, trouble=True, detail="ReadTimeout")
    assert scene.control.rate().now == limit
    for name in ("last", "later"):
        scene.enter(name)
        scene.go(name)
    for name in ("last", "later"):
        scene.record(name, outcome, trouble=True, detail="ReadTimeout")
    assert scene.paused() == {BREAKER: "outage"}
    assert scene.control.rate().now == limit * share


def test_good_days_do_not_hide_an_outage(scene: Scene) -> None:
    call_all(scene, some(100, "good"), Outcome.ACCEPTED)
    calls_fail(scene, 10)
    assert scene.paused() == {BREAKER: "outage"}


def test_a_refusal_is_a_sign_of_life(scene: Scene) -> None:
    for n in range(9):
        calls_fail(scene, 1, f"bad{n}-")
        scene.call(f"refused{n}-1", Outcome.REFUSED)
        scene.call(f"refused{n}-2", Outcome.REFUSED)
        scene.call(f"good{n}", Outcome.ACCEPTED)
    assert scene.paused() == {}


def test_calls_are_noted_from_the_first_that_fails_on(scene: Scene) -> None:
    call_all(scene, some(3, "good"), Outcome.ACCEPTED)
    assert not scene.client.exists(keys.RECENT_ATTEMPTS)
    calls_fail(scene, 2)
    call_all(scene, some(30, "better"), Outcome.ACCEPTED)
    assert scene.client.lrange(keys.RECENT_ATTEMPTS, 0, -1) == ["0"] * 20
    assert 0 < scene.client.pttl(keys.RECENT_ATTEMPTS) <= 60_000  # type: ignore[operator]


def test_good_calls_of_before_a_resumption_do_not_hide_an_outage(scene: Scene) -> None:
    old = some(15, "old")
    for name in old:
        scene.enter(name)
        scene.go(name)
        scene.began_long_ago(name)
    calls_fail(scene, 10)
    scene.control.resume(BREAKER, "by hand")
    calls_fail(scene, 5, "new")
    for name in old:
        scene.record(name, Outcome.ACCEPTED)
    calls_fail(scene, 5, "newer")
    assert scene.paused() == {BREAKER: "outage"}


def test_calls_whose_leases_are_over_are_not_under_way_without_an_answer(
    client: redis.Redis, settings: Settings
) -> None:
    """Release 0.2.0, which counts elsewhere, lets them run out while it has as many under way."""
    scene = Scene(client, settings, rate_per_s=10, rate_burst=100)
    for name in some(20, "of-a-worker-that-died"):
        scene.enter(name)
        scene.go(name)
    scene.enter("last")
    assert isinstance(scene.admit("last"), RetryLater)
    over_us = int((scene.rules.lease_s + 1) * 1_000_000)
    client.hset(keys.RATE, "newest", scene.now_us() - over_us)
    assert isinstance(scene.admit("last"), Admitted)


def test_calls_that_came_too_fast_are_no_outage(scene: Scene) -> None:
    call_all(scene, some(30), Outcome.NOT_SENT, too_fast=True, detail="http 429")
    assert scene.paused() == {}


def test_what_failed_long_ago_counts_no_more(scene: Scene) -> None:
    calls_fail(scene, 9)
    for n in range(9):
        scene.client.lset("smsq:outcomes", n, scene.now_ms() - 60_000)
    calls_fail(scene, 9, "more")
    assert scene.paused() == {}
    calls_fail(scene, 1, "last")
    assert scene.paused() == {BREAKER: "outage"}


def test_calls_begun_before_the_resumption_count_for_nothing(scene: Scene) -> None:
    for name in some(15, "old"):
        scene.enter(name)
        scene.go(name)
        scene.began_long_ago(name)
    calls_fail(scene, 10)
    scene.control.resume(BREAKER, "it is back")
    for name in some(15, "old"):
        scene.record(name, Outcome.NOT_SENT, trouble=True)
    calls_fail(scene, 9, "new")
    assert scene.paused() == {}
    calls_fail(scene, 1, "last")
    assert scene.paused() == {BREAKER: "outage"}


def test_the_same_result_recorded_twice_counts_once(scene: Scene) -> None:
    for name in some(5):
        scene.call(name, Outcome.MAYBE_SENT, trouble=True)
        scene.record(name, Outcome.MAYBE_SENT, trouble=True)
    assert scene.paused() == {}


@pytest.mark.parametrize("answer", [Outcome.ACCEPTED, Outcome.REFUSED])
def test_a_probe_that_gets_an_answer_heals_the_breaker(scene: Scene, answer: Outcome) -> None:
    scene.enter("slow")
    scene.go("slow")
    scene.began_long_ago("slow")
    calls_fail(scene, 10)
    for name in ("p1", "p2", "p3"):
        scene.enter(name)
        waits_unspent(scene, name)
    assert scene.probe_is_due(BREAKER).lanes == "probe"
    scene.go("p1")
    waits_unspent(scene, "p2")
    scene.record("p1", Outcome.NOT_SENT, trouble=True)
    scene.record("slow", Outcome.ACCEPTED)  # an answer to a call begun before
    assert scene.paused() == {BREAKER: "outage"}
    scene.probe_is_due(BREAKER)
    scene.go("p2")
    scene.record("p2", answer)
    assert scene.paused() == {}
    scene.go("p3")
    scene.record("p3", Outcome.NOT_SENT, trouble=True)
    assert scene.paused() == {}  # the window began anew


def test_a_doubted_message_is_a_probe_only_when_no_other_came(scene: Scene) -> None:
    scene.call("doubted", Outcome.MAYBE_SENT)
    scene.run_out("doubted")
    calls_fail(scene, 10)
    scene.probe_is_due(BREAKER)
    before = scene.now_ms()
    assert scene.stays("doubted") == "deferred"
    assert scene.used_up("doubted") == ("1", "1")
    assert before < scene.timer("doubted") <= scene.now_ms() + scene.rules.probe_s * 1000
    scene.run_out("doubted")
    # Nobody else comes, though the clock asks again and again.
    stored = scene.stored_pause(BREAKER)
    waited = {"permit": stored["permit"] - round(4.5 * scene.rules.probe_s * 1000)}
    scene.client.hset(keys.PAUSES, BREAKER, json.dumps(stored | waited))
    scene.probe_is_due(BREAKER)
    assert scene.go("doubted") == 2


def test_a_doubted_message_leaves_the_permit_to_others(scene: Scene) -> None:
    scene.call("doubted", Outcome.MAYBE_SENT)
    scene.run_out("doubted")
    calls_fail(scene, 10)
    scene.probe_is_due(BREAKER)
    scene.stays("doubted")
    assert scene.claim().lanes == "probe"
    scene.enter("m1")
    scene.go("m1")


def test_a_pause_heals_though_the_breaker_was_turned_off_meanwhile(
    scene: Scene, client: redis.Redis, settings: Settings
) -> None:
    calls_fail(scene, 10)
    off = Scene(client, settings, breaker=None)
    off.enter("p1")
    waits_unspent(off, "p1")
    off.probe_is_due(BREAKER)
    off.go("p1")
    off.record("p1", Outcome.ACCEPTED)
    assert off.paused() == {}


def test_without_a_breaker_no_outage_pauses(client: redis.Redis, settings: Settings) -> None:
    scene = Scene(client, settings, breaker=None)
    calls_fail(scene, 30)
    assert scene.paused() == {}


def test_the_breaker_is_as_the_settings_say(client: redis.Redis, settings: Settings) -> None:
    scene = Scene(client, settings, breaker=Breaker(2, 100, 60))
    calls_fail(scene, 1)
    assert scene.paused() == {}
    calls_fail(scene, 1, "last")
    assert scene.paused() == {BREAKER: "outage"}


# A template


def accept(scene: Scene, name: str, template: str = TEMPLATE) -> None:
    scene.enter(name, template=template)
    scene.go(name)
    scene.record(name, Outcome.ACCEPTED)


def template_goes_bad(scene: Scene) -> None:
    for name in some(5, "bad"):
        accept(scene, name)
        scene.report(name, BAD_TEMPLATE)
    assert scene.paused() == {OF_TEMPLATE: "report"}


def test_a_template_is_paused_by_a_pattern_and_four_messages_failed(scene: Scene) -> None:
    for name in some(4, "bad"):
        accept(scene, name)
        assert scene.report(name, BAD_TEMPLATE) == "failed"
    assert scene.paused() == {}
    accept(scene, "bad4")
    assert scene.report("bad4", BAD_TEMPLATE) == "deferred"
    assert scene.paused() == {OF_TEMPLATE: "report"}
    assert scene.room() == ["bad4"]


def test_one_report_that_is_repeated_is_no_pattern(scene: Scene) -> None:
    accept(scene, "bad")
    for _ in range(20):
        scene.report("bad", BAD_TEMPLATE)
    assert scene.paused() == {}


def test_a_few_bad_reports_among_many_good_are_no_pattern(scene: Scene) -> None:
    for name in some(24, "good"):
        accept(scene, name)
        scene.report(name, DELIVRD)
    for name in some(5, "bad"):
        accept(scene, name)
        assert scene.report(name, BAD_TEMPLATE) == "failed"
    # The next is 6 of 30.
    accept(scene, "last")
    scene.report("last", BAD_TEMPLATE)
    assert scene.paused() == {OF_TEMPLATE: "report"}


def test_a_templates_window_is_forgotten(scene: Scene) -> None:
    accept(scene, "bad")
    scene.report("bad", BAD_TEMPLATE)
    assert 0 < scene.client.ttl(f"smsq:reports:{TEMPLATE}") <= 900


def test_messages_of_other_templates_go(scene: Scene) -> None:
    template_goes_bad(scene)
    scene.enter("m1")
    scene.enter("m2", template=OTHER)
    assert scene.stays("m1") == "deferred"
    scene.go("m2")
    assert scene.claim().lanes == "open"


def reported_bad(scene: Scene, lane: str, count: int) -> str:
    """Report messages of a lane as the template's fault; give the state of the last."""
    known = scene.client.incr("test:names", count)
    state = ""
    for n in range(int(str(known)) - count, int(str(known))):
        accept_in(scene, f"bad{n}", lane)
        state = scene.report(f"bad{n}", BAD_TEMPLATE)
    return state


def accept_in(scene: Scene, name: str, lane: str) -> None:
    scene.enter(name, lane=lane, phone=f"139{int(str(scene.client.incr('test:phones'))):08}")
    scene.go(name)
    scene.record(name, Outcome.ACCEPTED)


def test_a_campaigns_reports_do_not_stop_an_otp_of_the_same_template(scene: Scene) -> None:
    assert reported_bad(scene, "bulk", 5) == "deferred"
    (pause,) = scene.control.pauses()
    assert (pause.scope, pause.lanes) == (OF_TEMPLATE, ("bulk",))
    for lane, answer in (("bulk", "deferred"), ("notice", "go"), ("otp", "go")):
        scene.enter(lane, lane=lane)
        assert answer == "go" or scene.stays(lane) == answer
        if answer == "go":
            scene.go(lane)
    assert scene.room() == ["bad4", "bulk"]


def test_an_otp_is_not_stopped_by_one_carrier_and_is_by_all(scene: Scene) -> None:
    """Three of five reports: the largest carrier has not filed the template."""
    for n in range(40):
        accept_in(scene, f"good{n}", "otp")
        scene.report(f"good{n}", DELIVRD)
    assert reported_bad(scene, "otp", 60) == "failed"
    assert scene.paused() == {}
    scene.client.delete(f"smsq:reports:{TEMPLATE}")
    assert reported_bad(scene, "otp", 49) == "failed"
    assert reported_bad(scene, "otp", 1) == "deferred"
    assert [pause.lanes for pause in scene.control.pauses()] == [("otp",)]


def test_a_lane_joins_the_pause_and_all_go_on_together(scene: Scene) -> None:
    reported_bad(scene, "bulk", 5)
    since = scene.stored_pause(OF_TEMPLATE)["since"]
    assert reported_bad(scene, "notice", 5) == "deferred"
    (pause,) = scene.control.pauses()
    assert pause.lanes == ("bulk", "notice")
    assert scene.stored_pause(OF_TEMPLATE)["since"] == since
    assert scene.control.resume(OF_TEMPLATE, "filed")
    assert sorted(scene.woken()) == ["bad4", "bad9"]


def test_only_a_probe_of_a_paused_lane_heals_the_template(scene: Scene) -> None:
    reported_bad(scene, "bulk", 5)
    accept_in(scene, "login", "otp")
    assert scene.report("login", DELIVRD) == "delivered"
    assert scene.paused() == {OF_TEMPLATE: "report"}
    assert [name for name, _ in scene.probe_is_due(OF_TEMPLATE).wake] == ["bad4"]
    scene.go("bad4")
    scene.record("bad4", Outcome.ACCEPTED)
    scene.report("bad4", DELIVRD)
    assert scene.paused() == {}


def test_the_permit_of_a_paused_lane_is_not_used_up_by_another(scene: Scene) -> None:
    reported_bad(scene, "bulk", 5)
    scene.probe_is_due(OF_TEMPLATE)
    accept_in(scene, "login", "otp")
    assert "permit" in scene.stored_pause(OF_TEMPLATE)


def test_a_pause_of_an_operator_or_of_an_older_release_stops_every_lane(scene: Scene) -> None:
    reported_bad(scene, "bulk", 5)
    stored = scene.stored_pause(OF_TEMPLATE)
    del stored["lanes"]
    scene.client.hset(keys.PAUSES, OF_TEMPLATE, json.dumps(stored))
    scene.enter("m1", lane="otp")
    assert scene.stays("m1") == "deferred"
    assert scene.control.pause(OF_TEMPLATE, "by hand")
    assert [(pause.cause, pause.lanes) for pause in scene.control.pauses()] == [("operator", ())]


def test_lanes_have_settings_and_one_may_be_off(client: redis.Redis, settings: Settings) -> None:
    limits = template_pauses("bulk=2/50/60,notice=off")
    scene = Scene(client, settings, template_pause=limits)
    assert reported_bad(scene, "notice", 8) == "failed"
    assert reported_bad(scene, "bulk", 2) == "deferred"
    off = Scene(client, settings, template_pause=())
    off.control.resume(OF_TEMPLATE, "by hand")
    assert reported_bad(off, "bulk", 8) == "failed"


def test_a_pause_whose_lanes_are_none_counts_as_an_operators(scene: Scene) -> None:
    reported_bad(scene, "bulk", 5)
    stored = scene.stored_pause(OF_TEMPLATE) | {"lanes": "bulk"}
    scene.client.hset(keys.PAUSES, OF_TEMPLATE, json.dumps(stored))
    scene.enter("m1", lane="otp")
    assert scene.stays("m1") == "deferred"
    scene.claim()
    assert scene.paused() == {OF_TEMPLATE: "operator"}


def test_messages_of_a_paused_template_wait_in_its_room_and_are_woken(scene: Scene) -> None:
    scene.control.pause(OF_TEMPLATE, "by hand")
    for name in ("m1", "m2", "m3"):
        scene.enter(name)
        assert scene.stays(name) == "deferred"
        assert scene.used_up(name) == (None, None)
        assert scene.timer(name) == int(str(scene.field(name, "expires")))
    assert sorted(scene.room()) == ["m1", "m2", "m3"]
    assert scene.woken() == []
    scene.control.resume(OF_TEMPLATE, "approved")
    assert sorted(scene.woken()) == ["m1", "m2", "m3"]
    assert scene.room() == []
    assert not scene.client.exists("smsq:released")
    for name in ("m1", "m2", "m3"):
        scene.go(name)
    scene.check_live("m1", "m2", "m3")


def test_many_that_waited_are_woken_so_many_at_a_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.ledger.timers.CLAIM_AT_MOST", 2)
    scene.control.pause(OF_TEMPLATE, "by hand")
    for name in some(5):
        scene.enter(name)
        scene.stays(name)
    scene.control.resume(OF_TEMPLATE, "approved")
    woken = [scene.woken() for _ in range(4)]
    assert [len(names) for names in woken] == [2, 2, 1, 0]
    assert sorted(name for names in woken for name in names) == some(5)


def test_so_it_is_where_several_templates_go_on_together(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = [f"SMS_{n}" for n in range(4)]
    for template in templates:
        scene.control.pause(f"template:{template}", "by hand")
        for n in range(3):
            scene.enter(f"{template} {n}", template=template)
            scene.stays(f"{template} {n}")
    for template in templates:
        scene.control.resume(f"template:{template}", "approved")
    monkeypatch.setattr("smsq_worker.ledger.timers.CLAIM_AT_MOST", 4)
    scene.claim()
    assert [len(scene.room(template)) for template in templates] == [2, 2, 2, 2]
    woken = [name for _ in range(4) for name in scene.woken()]
    assert len(woken) == 8
    assert not scene.client.exists("smsq:released")


@pytest.mark.parametrize("by", ["a probe", "the end of the pause"])
def test_one_that_cannot_be_understood_as_it_waits_is_tried_again(scene: Scene, by: str) -> None:
    scene.enter()
    pause = {"cause": "report", "detail": "", "since": LONG_AGO, "probe_at": scene.now_ms() + 10**6}
    scene.client.hset(keys.PAUSES, OF_TEMPLATE, json.dumps(pause))
    scene.stays()
    assert scene.room() == ["m1"]
    scene.client.hset(keys.message("m1"), "n", "none")
    if by == "a probe":
        scene.probe_is_due(OF_TEMPLATE)
    else:
        scene.control.resume(OF_TEMPLATE, "approved")
        scene.claim()
    scene.client.hdel(keys.message("m1"), "n")  # An operator corrects it.
    assert scene.timer() < scene.now_ms() + 61_000
    scene.wake()


def test_a_template_that_is_paused_again_wakes_nobody_in_vain(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smsq_worker.ledger.timers.CLAIM_AT_MOST", 2)
    scene.control.pause(OF_TEMPLATE, "by hand")
    for name in some(5):
        scene.enter(name)
        scene.stays(name)
    scene.control.resume(OF_TEMPLATE, "approved")
    for name in scene.woken():
        scene.go(name)
    scene.control.pause(OF_TEMPLATE, "not quite")
    assert scene.woken() == []
    assert len(scene.room()) == 3
    scene.control.resume(OF_TEMPLATE, "approved")
    assert len(scene.woken() + scene.woken()) == 3


def test_a_message_expires_while_it_waits_and_leaves_the_room(scene: Scene) -> None:
    scene.control.pause(OF_TEMPLATE, "by hand")
    scene.enter("m1")
    scene.stays("m1")
    scene.run_out_of_ttl("m1")
    assert (scene.state("m1"), scene.status("m1").reason) == ("expired", None)
    assert scene.room() == []


def test_reports_of_a_paused_template_make_messages_wait_instead_of_fail(scene: Scene) -> None:
    accept(scene, "m1")
    accept(scene, "m2")
    template_goes_bad(scene)
    assert scene.report("m1", BAD_TEMPLATE) == "deferred"
    assert scene.used_up("m1") == ("1", None)
    assert scene.room() == ["bad4", "m1"]
    assert scene.report("m2", stat("MA:0002", "permanent")) == "failed"
    scene.control.resume(OF_TEMPLATE, "approved")
    assert sorted(scene.woken()) == ["bad4", "m1"]
    assert scene.go("m1") == 2
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


@pytest.mark.parametrize("code", ["MA:0024", "MA:0017"])
def test_a_report_that_comes_again_does_not_fail_what_waits_for_its_template(
    scene: Scene, code: str
) -> None:
    again = stat(code, "permanent", pause="template")
    accept(scene, "m1")
    template_goes_bad(scene)
    assert scene.report("m1", BAD_TEMPLATE) == "deferred"
    assert scene.report("m1", again) == "deferred"
    assert scene.room() == ["bad4", "m1"]


def test_nor_what_has_waited_for_it(scene: Scene) -> None:
    accept(scene, "m1")
    template_goes_bad(scene)
    scene.report("m1", BAD_TEMPLATE)
    scene.control.resume(OF_TEMPLATE, "approved")
    assert scene.report("m1", BAD_TEMPLATE) == "deferred"
    assert sorted(scene.woken()) == ["bad4", "m1"]
    assert scene.report("m1", BAD_TEMPLATE) == "queued"
    assert scene.go("m1") == 2


def test_what_was_sent_and_waits_till_its_end_failed_by_the_report(scene: Scene) -> None:
    accept(scene, "m1")
    template_goes_bad(scene)
    scene.report("m1", BAD_TEMPLATE)
    scene.run_out_of_ttl("m1")
    assert (scene.state("m1"), scene.status("m1").reason) == ("failed", "report:MA:0024")


def test_a_late_answer_takes_a_message_out_of_the_room(scene: Scene) -> None:
    """It would otherwise end as unreported when the room is emptied."""
    scene.enter("m1")
    scene.go("m1")
    scene.run_out("m1")  # the lease
    assert scene.run_out("m1") == ["m1"]
    scene.control.pause(OF_TEMPLATE, "by hand")
    assert scene.stays("m1") == "deferred"
    assert scene.room() == ["m1"]
    scene.record("m1", Outcome.ACCEPTED)
    assert scene.room() == []
    scene.control.resume(OF_TEMPLATE, "approved")
    assert scene.woken() == []
    assert scene.state("m1") == "accepted"


def test_a_probe_of_the_room_goes_and_heals(scene: Scene) -> None:
    accept(scene, "slow")
    scene.began_long_ago("slow")
    template_goes_bad(scene)
    (pause,) = scene.control.pauses()
    assert pause.probe_at is not None
    wait_s = (pause.probe_at - pause.since).total_seconds()
    assert wait_s == 20 * scene.rules.probe_s
    for name in ("m1", "m2"):
        scene.enter(name)
        scene.stays(name)
    due = scene.probe_is_due(OF_TEMPLATE)
    assert [name for name, _ in due.wake] == ["bad4"]  # it has waited longest
    assert scene.go("bad4") == 2
    assert scene.run_out("m1") == ["m1"]
    assert scene.stays("m1") == "deferred"  # the permit is used up
    scene.report("slow", DELIVRD)  # its call was begun before
    scene.record("bad4", Outcome.ACCEPTED)
    scene.report("bad4", PHONE_IS_OFF)  # says nothing of the template
    assert scene.paused() == {OF_TEMPLATE: "report"}
    due = scene.probe_is_due(OF_TEMPLATE)
    (probe,) = [name for name, _ in due.wake]
    scene.go(probe)
    scene.record(probe, Outcome.ACCEPTED)
    scene.report(probe, DELIVRD)
    assert scene.paused() == {}
    assert len(scene.woken()) == 1


def test_a_template_probe_that_fails_waits_again(scene: Scene) -> None:
    template_goes_bad(scene)
    scene.probe_is_due(OF_TEMPLATE)
    scene.go("bad4")
    scene.record("bad4", Outcome.ACCEPTED)
    assert scene.report("bad4", BAD_TEMPLATE) == "deferred"
    assert scene.room() == ["bad4"]
    assert scene.used_up("bad4") == ("2", None)


def test_a_new_message_is_the_probe_where_nobody_waits(scene: Scene) -> None:
    template_goes_bad(scene)
    scene.run_out_of_ttl("bad4")
    scene.probe_is_due(OF_TEMPLATE)
    for name in ("m1", "m2"):
        scene.enter(name)
    scene.go("m1")
    assert scene.stays("m2") == "deferred"


def test_messages_that_expired_in_the_room_do_not_keep_the_next_from_probing(scene: Scene) -> None:
    template_goes_bad(scene)
    scene.enter("m1")
    scene.stays("m1")
    scene.run_out_of_ttl("bad4")
    due = scene.probe_is_due(OF_TEMPLATE)
    assert [name for name, _ in due.wake] == ["m1"]


def test_stale_reports_do_not_pause_a_template_again(scene: Scene) -> None:
    for name in some(10, "old"):
        accept(scene, name)
        scene.began_long_ago(name)
    template_goes_bad(scene)
    scene.control.resume(OF_TEMPLATE, "approved")
    for name in some(10, "old"):
        assert scene.report(name, BAD_TEMPLATE) == "failed"
    assert scene.paused() == {}
    assert not scene.client.exists(f"smsq:reports:{TEMPLATE}")


def test_what_may_have_been_sent_does_not_wait_as_if_it_had_not(scene: Scene) -> None:
    """An operator's catalogue may say so of any code."""
    accept(scene, "m1")
    accept(scene, "m2")
    unsure = stat("MA:0015", "transient", 60, pause="account", maybe_sent=True)
    assert scene.report("m1", unsure) == "deferred"
    assert scene.used_up("m1") == ("1", "1")
    scene.control.resume(ACCOUNT, "paid")
    scene.run_out("m1")
    scene.go("m1")
    assert scene.ledger.counters()["possible_duplicates"] == 1


# What an operator hears


def test_each_transition_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
        scene.go(name)
    calls_fail(scene, 10, "down")
    for name in ("m1", "m2"):
        scene.record(name, Outcome.NOT_SENT, trouble=True)
    scene.probe_is_due(BREAKER)
    scene.claim()
    scene.enter("p1")
    scene.go("p1")
    scene.record("p1", Outcome.ACCEPTED)
    for _ in range(3):
        scene.report("p1", NO_BALANCE)
    scene.control.resume(ACCOUNT, "paid")
    scene.control.resume(ACCOUNT, "paid")
    template_goes_bad(scene)
    scene.control.pause(OF_TEMPLATE, "until Monday")
    scene.control.pause(OF_TEMPLATE, "until Monday")
    assert caplog.messages == [
        "paused breaker (outage): no connection",
        "resumed breaker: a probe got through",
        "paused account (report): MA:0015",
        "paused template:SMS_1001 in lane notice (report): MA:0024",
    ]


def test_what_is_told_holds_no_number(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    suppress = stat("MA:0001", "permanent", suppress_ms=1000)
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", suppress)
    scene.enter("m2")
    scene.stays("m2")
    scene.enter("m3", phone=OTHER_PHONE)
    assert isinstance(scene.admit("m3"), Admitted)
    for n in range(25):
        scene.enter(f"r{n}", phone=OTHER_PHONE)
        if isinstance(scene.admit(f"r{n}"), Admitted):
            scene.record(f"r{n}", Outcome.REFUSED)
    assert len(caplog.messages) == 1
    for number in (PHONE, OTHER_PHONE):
        assert number not in caplog.text
        assert number not in json.dumps(scene.client.hgetall(keys.PAUSES))


def one_waits_behind(scene: Scene, count: int) -> None:
    """Have m1 wait for a template behind so many of a campaign."""
    template_goes_bad(scene)
    scene.run_out_of_ttl("bad4")
    for n in range(count):
        scene.enter(f"c{n}", campaign="spring")
        scene.stays(f"c{n}")
    scene.enter("m1")
    scene.stays("m1")


def test_what_waits_for_its_campaign_too_keeps_no_other_from_probing(scene: Scene) -> None:
    one_waits_behind(scene, 3)
    assert scene.room() == ["c0", "c1", "c2", "m1"]
    campaigns = Campaigns(scene.client, scene.rules)
    campaigns.do("pause", "spring")
    due = scene.probe_is_due(OF_TEMPLATE)
    assert [name for name, _ in due.wake] == ["m1"]
    scene.go("m1")
    campaigns.do("resume", "spring")
    assert sorted(release(scene)) == ["c0", "c1", "c2"]
    for n in range(3):
        assert scene.stays(f"c{n}") == "deferred"
    assert scene.room() == ["c0", "c1", "c2"]


def test_nor_do_more_than_one_act_can_look_at(scene: Scene) -> None:
    one_waits_behind(scene, 60)
    Campaigns(scene.client, scene.rules).do("pause", "spring")
    due = scene.probe_is_due(OF_TEMPLATE)
    assert (due.wake, due.more, len(scene.room())) == ((), True, 11)
    assert scene.woken() == ["m1"]
    assert not scene.claim().more
    scene.go("m1")
