"""Several accounts in one ledger: which of them takes a message, and what leads to another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from harness.scene import DELIVRD, NO_BALANCE, PHONE_IS_OFF, Scene, stat
from harness.scopes import template_scope
from harness.several import ACCEPTED, MAYBE_SENT, NOT_SENT, REFUSED, UNCLEAR, A, B, Several
from smsq import keys
from smsq.connection import perform, running
from smsq.contract import Lane, State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.limits import Breaker
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import (
    Admitted,
    AttemptResult,
    Rejected,
    Report,
    RetryLater,
    accounts,
    timers,
)

RATE = 1000.0
FIRST = Account("main", A, RATE, 10)
SECOND = Account("backup", B, RATE, 10)
IN_ORDER = Route((A, B))
NOT_FILED = stat("MA:0024", "permanent", scope="template")
NO_ROUTE = stat("MA:0003", "transient", 600, scope="route")
EMPTY_NUMBER = stat("MK:0001", "permanent", scope="recipient")

Build = Callable[..., Several]


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    def with_accounts(
        *given: Account, routes: tuple[Route, ...] = (IN_ORDER,), **rules: Any
    ) -> Several:
        rules = {"phone_limits": ()} | rules
        return Several(client, settings, accounts=given or (FIRST, SECOND), routes=routes, **rules)

    return with_accounts


@pytest.fixture
def scene(build: Build) -> Several:
    return build()


# Which account


def test_the_first_of_the_route_takes_it(scene: Several) -> None:
    scene.enter()
    assert scene.at() == A
    assert scene.ended("m1", ACCEPTED) == "accepted"
    assert scene.field("m1", "1:account") is None
    assert scene.told("m1", DELIVRD) == "delivered"
    assert scene.status().attempts[0].mid == "MID-m1-1"


def test_one_that_is_paused_is_left_at_once(scene: Several) -> None:
    for n in range(3):
        scene.enter(f"m{n}")
    scene.pause(A)
    assert [scene.at(f"m{n}") for n in range(3)] == [B] * 3
    assert scene.ended("m0", ACCEPTED) == "accepted"
    assert scene.client.get(keys.mid("MID-m0-1 backup")) == "1 m0"
    assert scene.told("m0", DELIVRD) == "delivered"
    attempt = scene.status("m0").attempts[0]
    assert (attempt.mid, attempt.account, attempt.stat) == ("MID-m0-1", B, "DELIVRD")


def test_a_breaker_and_its_probe_are_an_accounts(build: Build) -> None:
    scene = build(breaker=Breaker(2, 50, 60))
    for n in range(2):
        scene.enter(f"m{n}")
        assert scene.at(f"m{n}") == A
        scene.ended(f"m{n}", MAYBE_SENT, trouble=True)
    assert scene.paused() == {"breaker": "outage"}
    scene.enter("m2")
    assert scene.at("m2") == B
    assert scene.probe_is_due("breaker").lanes == "open"
    scene.enter("m3")
    scene.enter("m4")
    assert [scene.at("m3"), scene.at("m4")] == [A, B]
    scene.ended("m3", ACCEPTED)
    assert scene.paused() == {}


def test_an_otp_is_no_probe_while_another_account_is_there(scene: Several) -> None:
    scene.pause(A, "breaker")
    pause = scene.stored_pause("breaker") | {"cause": "outage", "permit": scene.now_ms()}
    scene.client.hset(keys.PAUSES, "breaker", json.dumps(pause))
    for name, lane in (("o1", "otp"), ("n1", "notice")):
        scene.enter(name, lane=lane)
    assert [scene.at("o1"), scene.at("n1")] == [B, A]
    # None but otps come: after a while one is.
    scene.client.hset(keys.PAUSES, "breaker", json.dumps(pause | {"permit": 1}))
    scene.enter("o2", lane="otp")
    assert scene.at("o2") == A


def test_an_otp_is_a_probe_where_there_is_no_other_account(scene: Several) -> None:
    scene.pause(A, "breaker")
    scene.pause(B)
    pause = scene.stored_pause("breaker") | {"cause": "outage", "permit": scene.now_ms()}
    scene.client.hset(keys.PAUSES, "breaker", json.dumps(pause))
    scene.enter("o1", lane="otp")
    assert scene.at("o1") == A


def test_an_account_has_its_own_templates_and_names_of_them(build: Build) -> None:
    scene = build(
        replace(FIRST, templates=(("SMS_2002", "T-2"),), only_these=True),
        replace(SECOND, templates=(("SMS_1001", "T-77"),)),
    )
    scene.enter("m1")
    scene.enter("m2", template="SMS_2002")
    one, two = scene.admitted("m1"), scene.admitted("m2")
    assert (one.account, one.template, one.template_there) == (B, "SMS_1001", "T-77")
    assert (two.account, two.template, two.template_there) == (A, "SMS_2002", "T-2")


def test_a_template_that_no_account_of_the_route_has_fails(build: Build) -> None:
    scene = build(
        *(replace(one, templates=(("SMS_2002", "x"),), only_these=True) for one in (FIRST, SECOND))
    )
    scene.enter()
    assert scene.stays() == "ended"
    assert (scene.state(), scene.status().reason) == ("failed", "local:no-account")
    assert scene.status().detail == "no account of its route has the template SMS_1001"


def test_the_first_route_that_matches_counts(build: Build) -> None:
    scene = build(
        routes=(Route((B,), lane=Lane.OTP), Route((B, A), template="SMS_2'\\2"), Route((A, B)))
    )
    scene.enter("m1", lane="otp")
    scene.enter("m2", lane="bulk", template="SMS_2'\\2")
    scene.enter("m3", lane="bulk")
    assert [scene.at(name) for name in ("m1", "m2", "m3")] == [B, B, A]


def test_a_number_that_one_account_holds_goes_by_the_other(scene: Several) -> None:
    scene.enter("m1", lane="notice")
    scene.at("m1")
    scene.ended("m1", ACCEPTED)
    scene.told("m1", stat("MA:0022", "transient", 1800, hold_ms=1_800_000, scope="frequency"))
    scene.enter("m2", lane="notice")
    assert scene.at("m2") == B
    scene.ended("m2", ACCEPTED)
    scene.told("m2", stat("MA:0022", "transient", 900, hold_ms=900_000, scope="frequency"))
    assert len(list(scene.client.scan_iter(f"{keys.PHONE_HOLD}*@backup"))) == 1
    scene.enter("m3", lane="notice")
    scene.enter("m4", lane="notice", ttl_s=60)
    assert (scene.stays("m3"), scene.stays("m4")) == ("deferred", "ended")
    # Until the first of both takes it again.
    assert scene.timer("m3") - scene.now_ms() < 900_001
    assert scene.status("m4").reason == "local:frequency"


def test_a_silent_account_is_passed_by_at_once(scene: Several) -> None:
    now = {"newest": scene.now_us()}
    scene.client.hset(keys.RATE, mapping=now | {"unanswered": 1_000_000})
    scene.client.hset(keys.LIVE, "notice:sending", 1_000_000)
    scene.enter("m1")
    scene.enter("m2")
    assert scene.at("m1") == B
    scene.client.hset(keys.at_account(keys.RATE, B), mapping=now | {"unanswered": 500_000})
    scene.client.hset(keys.at_account(keys.LIVE, B), "sending", 500_000)
    waits = scene.admit("m2")
    assert isinstance(waits, RetryLater)
    assert (waits.seconds, waits.alone, waits.turn) == (0.1, True, "")
    # Of all that are being sent half a million are at the other: so many are left to the first.
    scene.client.hset(keys.LIVE, "notice:sending", 500_100)
    assert scene.at("m2") == A


@pytest.mark.parametrize("weights", [(), (99, 1)], ids=["in order", "by weight"])
def test_after_a_doubt_one_that_answered_comes_first(
    build: Build, weights: tuple[int, ...]
) -> None:
    """One that is silent, with too few messages for its breaker, would get each thrice."""
    scene = build(routes=(Route((A, B), weights=weights),), max_resends=3)
    scene.enter()
    taken = [scene.at()]
    for _ in range(3):
        assert scene.ended("m1", MAYBE_SENT) == "deferred"
        scene.run_out()
        taken.append(scene.at())
    assert taken == [A, B, A, B]
    # Where there is no other it is tried there again.
    scene.enter("m2")
    assert scene.at("m2") == A
    scene.pause(B)
    assert scene.ended("m2", MAYBE_SENT) == "deferred"
    scene.run_out("m2")
    assert scene.at("m2") == A


def test_a_doubt_waits_for_no_account_that_left_none(build: Build) -> None:
    scene = build(max_resends=3)
    scene.enter()
    waits = []
    for _ in range(3):
        scene.at()
        assert scene.ended("m1", MAYBE_SENT, wait_s=60.0) == "deferred"
        due = scene.client.zscore(keys.TIMERS, "m1")
        waits.append(due is not None and float(str(due)) > scene.now_ms())
        scene.run_out()
    # B is asked at once; then both have left a doubt, and time may help.
    assert waits == [False, True, True]


@pytest.mark.parametrize(
    ("options", "account"),
    [
        ({"lane": "notice", "ttl_s": 5}, B),
        ({"lane": "otp"}, B),
        ({"lane": "notice"}, None),
        ({"lane": "bulk"}, None),
    ],
    ids=["ttl", "otp", "notice", "bulk"],
)
def test_a_slow_account_is_waited_for_only_in_time(
    build: Build, options: dict[str, object], account: str | None
) -> None:
    scene = build(replace(FIRST, rate_per_s=0.1, rate_burst=1), SECOND)
    scene.enter("m1")
    assert scene.at("m1") == A
    scene.enter("m2", **options)
    answer = scene.admit("m2")
    if account is None:
        assert isinstance(answer, RetryLater)
        assert 5 < answer.seconds < 12
        assert not answer.alone  # All of its lane wait for the same.
    else:
        assert isinstance(answer, Admitted)
        assert answer.account == account


def test_a_message_that_waits_for_one_account_holds_up_none_of_another(build: Build) -> None:
    routes = (Route((A,), template="SLOW"), Route((B,)))
    scene = build(replace(FIRST, rate_per_s=2, rate_burst=1), SECOND, routes=routes)
    for n in range(4):
        scene.enter(f"m{n}", template="SLOW" if n < 3 else "FAST", lane="bulk")
    assert scene.at("m0") == A
    answers = scene.ledger.admit_many([("m1", ""), ("m2", ""), ("m3", "")])
    assert [isinstance(one, RetryLater) and one.alone for one in answers] == [True, True, False]
    assert isinstance(answers[2], Admitted)
    # Who would wait long does not wait in a worker.
    scene.control.set_rate(0.1, 1)
    assert scene.client.hset(keys.RATE, "tat", scene.now_us() + 20_000_000) is not None
    assert scene.stays("m1") == "deferred"
    assert 0 < scene.timer("m1") - scene.now_ms() <= 5000


def test_accounts_share_by_weight(build: Build) -> None:
    fast = [replace(one, rate_per_s=100_000.0, rate_burst=2000) for one in (FIRST, SECOND)]
    scene = build(*fast, routes=(Route((A, B), weights=(3, 1)),))
    names = [f"m{n}" for n in range(1000)]
    for name in names:
        scene.enter(name, lane="bulk")
    taken: list[str] = []
    for start in range(0, 1000, 25):
        answers = scene.ledger.admit_many([(name, "") for name in names[start : start + 25]])
        taken += [one.account for one in answers if isinstance(one, Admitted)]
    assert len(taken) == 1000
    assert abs(taken.count(A) - 750) <= 2
    # What one could not take while it was paused it does not get afterwards.
    scene.pause(A)
    for n in range(1000, 1040):
        scene.enter(f"m{n}", lane="bulk")
    assert {scene.at(f"m{n}") for n in range(1000, 1020)} == {B}
    scene.control.resume("account", "test")
    assert 14 <= [scene.at(f"m{n}") for n in range(1020, 1040)].count(A) <= 16


def test_by_weight_another_takes_what_has_no_slot(build: Build) -> None:
    slow = replace(FIRST, rate_per_s=0.1, rate_burst=1)
    scene = build(slow, SECOND, routes=(Route((A, B), weights=(99, 1)),))
    for n in range(4):
        scene.enter(f"m{n}", lane="bulk")
    assert [scene.at(f"m{n}") for n in range(4)] == [A, B, B, B]


def test_a_booked_slot_is_of_an_account(build: Build) -> None:
    slow = replace(SECOND, rate_per_s=5, rate_burst=1)
    scene = build(FIRST, slow, routes=(Route((B, A)),))
    for n in range(3):
        scene.enter(f"m{n}", lane="otp")
    assert scene.at("m0") == B
    booked = [scene.ledger.admit(f"m{n}") for n in (1, 2)]
    turns = [one.turn for one in booked if isinstance(one, RetryLater)]
    assert [turn.partition("@")[2] for turn in turns] == [B, B]
    again = scene.ledger.admit("m1", turn=turns[0])
    assert isinstance(again, RetryLater | Admitted)
    scene.pause(B)
    chosen = scene.ledger.admit("m2", turn=turns[1])
    assert isinstance(chosen, Admitted)
    assert chosen.account == A


def test_where_all_are_paused_the_wakeup_is_given_back(scene: Several) -> None:
    scene.pause(A)
    assert scene.claim().lanes == "open"
    scene.pause(B, "breaker")
    scene.enter()
    assert scene.stays() == "paused"
    assert scene.claim().lanes == "closed"
    scene.control.resume("account", "test")
    assert scene.claim().lanes == "open"


def test_the_gate_lets_a_probe_through_where_all_are_paused(scene: Several) -> None:
    scene.pause(A)
    scene.pause(B, "breaker")
    pause = scene.stored_pause("breaker@backup") | {"cause": "outage"}
    scene.client.hset(keys.PAUSES, "breaker@backup", json.dumps(pause))
    assert scene.probe_is_due("breaker@backup").lanes == "probe"
    scene.enter()
    assert scene.at() == B
    assert scene.claim().lanes == "closed"


def test_messages_of_a_route_that_is_paused_are_out_of_the_others_way(build: Build) -> None:
    routes = (Route((A,), template="ONLY_A"), Route((B,)))
    scene = build(routes=routes)
    scene.pause(A)
    scene.enter("m1", template="ONLY_A")
    scene.enter("m2")
    answers = scene.ledger.admit_many([("m1", ""), ("m2", "")])
    assert answers[0] == Rejected("deferred", State.DEFERRED)
    assert isinstance(answers[1], Admitted)
    assert scene.timer("m1") - scene.now_ms() <= 5000


# What an account did not take


@pytest.mark.parametrize("scope", ["", "account", "route", "template", "gateway"])
def test_a_refusal_that_may_not_hold_elsewhere_goes_on(scene: Several, scope: str) -> None:
    scene.enter()
    assert scene.at() == A
    assert scene.ended("m1", REFUSED, scope=scope) == "queued"
    scene.check_live("m1")
    assert 0 < scene.timer() - scene.now_ms() <= 30_000
    assert scene.at() == B
    assert scene.ended("m1", ACCEPTED) == "accepted"
    assert scene.attempts() == [(A, "refused"), (B, "accepted")]
    assert scene.used_up() == ("2", None)
    assert "possible_duplicates" not in scene.ledger.counters()


@pytest.mark.parametrize("scope", ["recipient", "content", "frequency"])
def test_a_refusal_of_the_message_is_the_end(scene: Several, scope: str) -> None:
    for n in range(25):
        scene.enter(f"m{n}")
        assert scene.at(f"m{n}") == A
        assert scene.ended(f"m{n}", REFUSED, scope=scope) == "failed"
    assert scene.paused() == {}


UNFIT = {"detail": "local:unfit its code has 1 of 2 variables", "scope": "template"}


def test_what_a_vendor_cannot_write_another_may(scene: Several) -> None:
    for _ in range(2):
        scene.enter()
        assert scene.at() == A
        assert scene.ended("m1", REFUSED, **UNFIT) == "queued"
        assert scene.at() == B
        assert scene.ended("m1", REFUSED, **UNFIT) == "failed"
        assert scene.status().reason == "local:unfit"
        assert not scene.paused()
        scene.client.flushdb()


@pytest.mark.parametrize("several", [True, False])
def test_what_a_vendor_cannot_write_says_nothing_of_its_account(
    build: Build, client: redis.Redis, settings: Settings, several: bool
) -> None:
    rules: dict[str, Any] = {"phone_limits": (), "breaker": Breaker(2, 50, 60)}
    scene = build(**rules) if several else Several(client, settings, **rules)
    for n in range(25):
        scene.enter(f"u{n}")
        assert scene.at(f"u{n}") == A
        scene.ended(f"u{n}", REFUSED, **UNFIT)
    assert scene.paused() == {}
    for n in range(2):
        scene.enter(f"b{n}")
        assert scene.at(f"b{n}") == A
        scene.ended(f"b{n}", MAYBE_SENT, trouble=True)
    scene.probe_is_due("breaker")
    scene.enter("probe", lane="notice")
    assert scene.at("probe") == A
    scene.ended("probe", REFUSED, **UNFIT)
    assert scene.paused() == {"breaker": "outage"}


def test_it_fails_for_the_first_reason_when_all_have_refused_it(scene: Several) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", REFUSED, detail="gateway:400 first")
    assert scene.at() == B
    assert scene.ended("m1", REFUSED, detail="gateway:402 second") == "failed"
    assert scene.status().reason == "gateway:400"
    assert scene.status().certainly_not_sent
    assert (scene.field("m1", "refused"), scene.field("m1", "unsent")) == (None, None)


def test_what_arrives_nowhere_waits_for_the_backoff_and_counts_again(scene: Several) -> None:
    scene.enter()
    for _ in range(2):
        assert scene.at() == A
        assert scene.ended("m1", NOT_SENT, trouble=True) == "queued"
        assert scene.at() == B
        assert scene.ended("m1", NOT_SENT, trouble=True) == "deferred"
        assert scene.timer() - scene.now_ms() > 50_000
        scene.wake()
    assert scene.used_up() == ("4", None)


def test_one_that_refused_it_is_not_asked_again(scene: Several) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", REFUSED)
    for _ in range(3):
        assert scene.at() == B
        assert scene.ended("m1", NOT_SENT, trouble=True) == "deferred"
        scene.wake()
    assert scene.at() == B
    assert scene.ended("m1", REFUSED) == "failed"
    assert scene.status().reason == "gateway:400"


def test_what_no_account_has_to_do_with_waits(scene: Several) -> None:
    scene.enter()
    scene.at()
    assert scene.ended("m1", NOT_SENT, scope="worker") == "deferred"
    scene.wake()
    assert scene.at() == A


def test_bad_numbers_pause_the_first_account_at_most(scene: Several) -> None:
    for n in range(60):
        name = f"m{n}"
        scene.enter(name)
        while isinstance(scene.admit(name), Admitted):
            scene.ended(name, REFUSED)
    assert scene.paused() == {"account": "refusals"}
    states = [scene.state(f"m{n}") for n in range(60)]
    # The second refuses them too, and alone it is no proof against them.
    assert (states.count("failed"), states.count("deferred")) == (20, 40)
    scene.control.resume("account", "test")
    scene.wake("m59")
    assert scene.at("m59") == A
    assert scene.ended("m59", REFUSED) == "failed"


def test_bad_numbers_still_pause_the_only_account_of_a_route(build: Build) -> None:
    scene = build(routes=(Route((B,)),))
    for n in range(20):
        scene.enter(f"m{n}")
        assert scene.at(f"m{n}") == B
        assert scene.ended(f"m{n}", REFUSED) == "failed"
    assert scene.paused() == {"account@backup": "refusals"}


def test_a_wrong_secret_costs_no_message(scene: Several) -> None:
    for n in range(25):
        scene.enter(f"m{n}")
        if scene.at(f"m{n}") == A:
            assert scene.ended(f"m{n}", REFUSED) == "queued"
            assert scene.at(f"m{n}") == B
        assert scene.ended(f"m{n}", ACCEPTED) == "accepted"
    assert scene.paused() == {"account": "refusals"}
    assert [scene.attempts(f"m{n}")[0][0] for n in (19, 20)] == [A, B]


def test_an_account_without_balance_is_paused_whichever_it_is(scene: Several) -> None:
    for n in range(20):
        scene.enter(f"m{n}")
        scene.at(f"m{n}")
        scene.ended(f"m{n}", REFUSED, scope="account")
        scene.at(f"m{n}")
        scene.ended(f"m{n}", REFUSED, scope="account")
    assert scene.paused() == {"account": "refusals", "account@backup": "refusals"}


def test_a_refusal_by_an_account_that_is_paused_is_none(scene: Several) -> None:
    scene.enter()
    scene.at()
    scene.pause(A)
    assert scene.ended("m1", REFUSED) == "queued"
    assert scene.at() == B
    # It is not known whether the first would take it.
    assert scene.ended("m1", REFUSED) == "deferred"
    assert scene.field("m1", "unsent") is None


# Who dies when


def test_one_who_dies_before_he_asks_again_has_lost_a_wakeup(scene: Several) -> None:
    scene.enter()
    scene.at()
    assert scene.ended("m1", REFUSED) == "queued"
    scene.client.zadd(keys.TIMERS, {"m1": 1}, xx=True)
    due = scene.ledger.claim(resend_wait_s=1.0, empty=[*Lane])
    assert due.wake == (("m1", Lane.NOTICE),)
    assert scene.at() == B


def test_a_result_from_the_spool_is_in_nobodys_hand(scene: Several) -> None:
    scene.enter()
    scene.at()
    assert scene.ended("m1", NOT_SENT, in_hand=False) == "deferred"
    assert scene.timer() - scene.now_ms() <= 0
    assert scene.woken() == ["m1"]
    assert scene.at() == B


def test_one_who_dies_after_the_admission_leaves_a_doubt_there(scene: Several) -> None:
    scene.enter(on_ambiguous="hold")
    scene.at()
    scene.run_out()
    assert scene.state() == "held"
    assert scene.attempts() == [(A, "maybe_sent")]
    scene.pause(A)
    assert scene.stays() == "copy"  # Nobody sends it by the other.


@pytest.mark.parametrize("outcome", [REFUSED, NOT_SENT, ACCEPTED, MAYBE_SENT])
def test_a_late_result_of_one_account_leaves_the_others_attempt_alone(
    scene: Several, outcome: Outcome
) -> None:
    scene.enter()
    scene.at()
    begun = int(scene.field("m1", "1:at") or 0)
    scene.run_out()
    scene.pause(A)
    scene.wake()
    assert scene.at() == B
    mid = "MID-m1-1" if outcome is ACCEPTED else ""
    late = AttemptResult("m1", 1, outcome, UNCLEAR, mid, begun=begun, in_hand=True)
    assert scene.ledger.record_many([late]) == ["sending"]
    assert scene.ended("m1", ACCEPTED) == "accepted"
    assert [account for account, _ in scene.attempts()] == [A, B]
    assert scene.ledger.counters()["possible_duplicates"] == 1


def test_a_late_refusal_counts_where_it_came_from(scene: Several) -> None:
    scene.enter()
    scene.at()
    begun = int(scene.field("m1", "1:at") or 0)
    scene.run_out()
    scene.pause(A)
    scene.wake()
    assert scene.at() == B
    scene.control.resume("account", "test")
    late = AttemptResult("m1", 1, REFUSED, "gateway:400 late", begun=begun, in_hand=True)
    scene.ledger.record_many([late])
    assert scene.ended("m1", REFUSED) == "failed"  # Both have by now.
    assert scene.status().reason == "gateway:400"


def test_a_redis_that_forgot_the_admission_learns_of_its_account(scene: Several) -> None:
    scene.enter()
    before: Any = scene.client.hgetall(keys.message("m1"))
    scene.pause(A)
    assert scene.at() == B
    begun = int(scene.field("m1", "1:at") or 0)
    scene.client.delete(keys.message("m1"), keys.LIVE, keys.at_account(keys.LIVE, B))
    scene.client.hset(keys.message("m1"), mapping=before)
    scene.client.hset(keys.LIVE, "notice:queued", 1)
    result = AttemptResult("m1", 1, ACCEPTED, "", "X backup", begun=begun, account=B)
    assert scene.ledger.record_many([result]) == ["accepted"]
    assert scene.attempts() == [(B, "accepted")]
    assert scene.status().attempts[0].mid == "X"
    assert scene.client.hgetall(keys.at_account(keys.LIVE, B)) == {"accepted": "1"}
    assert scene.report_on("X backup", DELIVRD) == "delivered"


def test_two_attempts_of_one_number_at_two_accounts_are_counted(scene: Several) -> None:
    scene.enter()
    before: Any = scene.client.hgetall(keys.message("m1"))
    assert scene.at() == A
    first = int(scene.field("m1", "1:at") or 0)
    scene.client.delete(keys.message("m1"))
    scene.client.hset(keys.message("m1"), mapping=before)
    scene.client.hset(keys.message("m1"), "1:at", first + 1)  # a moment later
    scene.pause(A)
    assert scene.at() == B
    scene.client.hset(keys.message("m1"), "1:at", first + 1)
    lost = AttemptResult("m1", 1, ACCEPTED, "", "X", begun=first)
    scene.ledger.record_many([lost])
    assert scene.ledger.counters()["possible_duplicates"] == 1
    assert scene.ended("m1", ACCEPTED) == "accepted"
    assert scene.report_on("X", DELIVRD) == "delivered"


def test_a_call_that_is_sent_twice_is_answered_alike(scene: Several) -> None:
    scene.enter()
    scene.pause(A)
    admit = scene.ledger._scripts.act("admit")  # as redis-py sends a call again
    asked = [perform(scene.client, running(admit, ["", "asker", "m1", ""], 0)) for _ in range(2)]
    first, again = (answer[1] for answer, _ in asked)
    assert (first[0], first[7], again[0], again[7]) == ("go", B, "go", B)


# Reports


def test_one_mid_of_two_accounts_is_two_mids(scene: Several) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    scene.at("m1")
    scene.pause(A)
    scene.at("m2")
    scene.ended("m1", ACCEPTED, mid="X")
    scene.ended("m2", ACCEPTED, mid="X backup")
    assert scene.report_on("X backup", DELIVRD) == "delivered"
    assert (scene.state("m1"), scene.state("m2")) == ("accepted", "delivered")
    assert scene.report_on("X", EMPTY_NUMBER) == "failed"
    assert scene.report_on("X other", DELIVRD) == "parked"


def test_a_report_that_comes_before_the_answer_finds_its_account(scene: Several) -> None:
    scene.enter()
    scene.pause(A)
    scene.at()
    assert scene.report_on("X backup", DELIVRD) == "parked"
    assert scene.ended("m1", ACCEPTED, mid="X backup") == "delivered"


@pytest.mark.parametrize("report", [NOT_FILED, NO_ROUTE, replace(NO_BALANCE, scope="account")])
def test_a_failure_that_is_the_accounts_goes_on(scene: Several, report: Report) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", report) == "deferred"
    assert scene.timer() <= scene.now_ms()
    assert scene.woken() == ["m1"]
    assert scene.at() == B
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", DELIVRD) == "delivered"
    assert scene.used_up()[1] is None
    assert "possible_duplicates" not in scene.ledger.counters()
    assert scene.paused() == ({"account": "report"} if report.pause else {})


@pytest.mark.parametrize("again", [NOT_FILED, stat("MA:0028", "permanent", scope="route")])
def test_a_report_that_comes_again_does_not_fail_what_goes_on(
    scene: Several, again: Report
) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", NOT_FILED) == "deferred"
    assert scene.told("m1", again) == "deferred"
    assert scene.woken() == ["m1"]
    assert scene.told("m1", again) == "queued"
    assert scene.at() == B
    scene.ended("m1", NOT_SENT)
    assert scene.told("m1", again, attempt=1) == "deferred"  # nor where nobody has taken it yet
    scene.wake()
    assert scene.at() == B


def test_the_same_report_twice_before_the_answer_lets_it_go_on(scene: Several) -> None:
    scene.enter()
    scene.at()
    for _ in range(2):
        assert scene.report_on("MID-m1-1", NOT_FILED) == "parked"
    assert scene.ended("m1", ACCEPTED) == "deferred"
    assert scene.status().reason is None


def test_another_cause_fails_what_goes_on(scene: Several) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", NOT_FILED) == "deferred"
    assert scene.told("m1", EMPTY_NUMBER) == "failed"
    assert scene.status().reason == "report:MK:0001"


def test_a_failure_at_all_of_them_has_the_first_reason(scene: Several) -> None:
    scene.enter()
    scene.at()
    scene.ended("m1", ACCEPTED)
    scene.told("m1", NOT_FILED)
    scene.woken()
    assert scene.at() == B
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", stat("MA:0028", "permanent", scope="route")) == "failed"
    assert scene.status().reason == "report:MA:0024"


def test_no_balance_anywhere_waits(scene: Several) -> None:
    no_balance = replace(NO_BALANCE, scope="account")
    scene.enter()
    for account in (A, B):
        assert scene.at() == account
        scene.ended("m1", ACCEPTED)
        assert scene.told("m1", no_balance) == "deferred"
        scene.wake()
    assert scene.stays() == "paused"
    scene.control.resume("account", "test")
    assert scene.at() == A
    assert scene.used_up()[1] is None


@pytest.mark.parametrize(
    "report",
    [replace(NO_ROUTE, maybe_sent=True), EMPTY_NUMBER, PHONE_IS_OFF],
    ids=["maybe sent", "empty number", "phone is off"],
)
def test_other_failures_do_as_ever(scene: Several, report: Report) -> None:
    scene.enter(on_ambiguous="hold")
    scene.at()
    scene.ended("m1", ACCEPTED)
    scene.told("m1", report)
    expected = {"MA:0003": "held", "MK:0001": "failed", "EXPIRED": "deferred"}
    assert scene.state() == expected[report.stat]
    assert scene.timer("m1") > scene.now_ms() if scene.state() == "deferred" else True


@pytest.mark.parametrize("late", [DELIVRD, NOT_FILED, EMPTY_NUMBER])
def test_a_late_report_of_the_first_account(scene: Several, late: Report) -> None:
    scene.enter()
    scene.at()
    begun = int(scene.field("m1", "1:at") or 0)
    scene.run_out()
    scene.pause(A)
    scene.wake()
    assert scene.at() == B
    scene.ended("m1", ACCEPTED)
    result = AttemptResult("m1", 1, ACCEPTED, "", "MID-m1-1", begun=begun)
    scene.ledger.record_many([result])
    state = "delivered" if late is DELIVRD else "accepted"
    assert scene.told("m1", late, attempt=1) == state
    assert scene.told("m1", DELIVRD) == "delivered"


def test_a_template_is_paused_at_one_account(scene: Several) -> None:
    bad = replace(NOT_FILED, pause="template")
    for n in range(5):
        scene.enter(f"m{n}")
        scene.at(f"m{n}")
        scene.ended(f"m{n}", ACCEPTED)
        scene.told(f"m{n}", bad)
    assert scene.paused() == {"template:SMS_1001": "report"}
    scene.enter("m5")
    assert scene.at("m5") == B
    scene.ended("m5", ACCEPTED)
    scene.told("m5", bad)
    assert scene.paused() == {"template:SMS_1001": "report"}  # Its reports are counted there.
    assert scene.control.pause(template_scope("SMS_1001", B), "test")
    scene.enter("m6")
    assert scene.stays("m6") == "deferred"
    assert "m6" in scene.room()
    scene.control.resume(template_scope("SMS_1001", B), "test")
    scene.claim()
    assert "m6" in scene.woken() or scene.state("m6") == "queued"
    assert scene.at("m6") == B


def test_a_template_called_like_an_accounts_has_reports_of_its_own(scene: Several) -> None:
    bad = replace(NOT_FILED, pause="template")
    scene.enter("m1", template=f"SMS_1001@{B}")
    assert scene.at("m1") == A
    scene.pause(A)
    scene.enter("m2")
    assert scene.at("m2") == B
    for name in ("m1", "m2"):
        scene.ended(name, ACCEPTED)
        scene.told(name, bad)
    windows = {f"smsq:reports:SMS_1001@{B}", f"smsq:reports@{B}:SMS_1001"}
    assert set(scene.client.scan_iter("smsq:reports*")) == windows


def test_what_waits_for_a_template_goes_by_an_account_that_is_new(build: Build) -> None:
    before = build(FIRST, routes=(Route((A,)),))
    before.pause(A, template_scope("SMS_1001"))
    before.enter("m1")
    assert before.stays() == "deferred"
    assert before.claim().wake == ()
    scene = build()
    accounts.introduce(scene.client, scene.rules)
    assert scene.claim().wake == (("m1", Lane.NOTICE),)
    assert scene.at() == B


def test_what_an_older_worker_puts_back_behind_the_release_goes_on_as_well(build: Build) -> None:
    """As while workers are replaced one after the other."""
    before = build(FIRST, routes=(Route((A,)),))
    before.pause(A, template_scope("SMS_1001"))
    scene = build()
    accounts.introduce(scene.client, scene.rules)
    scene.claim()
    before.enter("m1")
    assert before.stays() == "deferred"
    scene.claim()  # looks, and releases from the next time on
    assert scene.room() == []
    assert scene.at() == B


def test_a_release_ends_where_all_must_wait_on(
    scene: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "CLAIM_AT_MOST", 10)
    for account in (A, B):
        assert scene.control.pause(template_scope("SMS_1001", account), "test")
    names = [f"m{n}" for n in range(30)]
    for name in names:
        scene.enter(name)
        assert scene.stays(name) == "deferred"
    accounts.introduce(scene.client, scene.rules)
    for _ in range(2):
        assert scene.woken() == []
    assert not scene.client.exists(keys.RELEASED)
    assert sorted(scene.room()) == sorted(names)


def test_a_probe_goes_over_no_other_account(
    build: Build, client: redis.Redis, settings: Settings
) -> None:
    # Workers that do not know the account, while others do.
    for n, scene in enumerate((Scene(client, settings), build(FIRST, routes=(Route((A,)),)))):
        for via, why in ((f"@{B}", "ended"), ("@", "go")):
            name = f"m{n}{via}"
            scene.enter(name)
            client.hset(keys.message(name), "via", via)
            assert getattr(scene.admit(name), "why", "go") == why
            reason = None if why == "go" else "local:no-account"
            assert scene.field(name, "reason") == reason


def test_the_rate_is_an_accounts(scene: Several) -> None:
    scene.pause(A)
    scene.enter()
    scene.at()
    scene.ended("m1", NOT_SENT, too_fast=True)
    assert (scene.control.rate().now, scene.control.rate(B).now) == (RATE, RATE / 2)
    scene.control.set_rate(7, 2, account=B)
    assert (scene.control.rate().limit, scene.control.rate(B).limit) == (RATE, 7)
    assert scene.claim().rate == RATE + 7
    scene.control.reset_rate(account=B)
    assert scene.control.rate(B).limit == RATE


def test_a_code_that_the_catalogue_does_not_know_is_an_accounts(scene: Several) -> None:
    scene.pause(A)
    scene.enter()
    scene.at()
    scene.ended("m1", ACCEPTED)
    scene.told("m1", stat("XA:0001", "unknown", unlisted=True))
    assert not scene.client.exists(keys.CODES_SEEN)
    seen = json.loads(str(scene.client.hget(keys.at_account(keys.CODES_SEEN, B), "XA:0001")))
    assert seen["mid"] == "MID-m1-1"


# What is counted, and who may work here


def under_way(scene: Several) -> dict[str, int]:
    """Give the attempts under way at each account."""
    counts = accounts.read_counts(scene.client, scene.rules, (A, B))
    return {key: one.in_flight for key, one in counts.items()}


def test_what_is_under_way_is_counted_by_account(scene: Several) -> None:
    accounts.introduce(scene.client, scene.rules)
    for n in range(6):
        scene.enter(f"m{n}")
    for n in range(2):
        assert scene.at(f"m{n}") == A
    scene.pause(A)
    for n in range(2, 6):
        assert scene.at(f"m{n}") == B
    assert under_way(scene) == {A: 2, B: 4}
    scene.ended("m0", ACCEPTED)
    scene.ended("m2", ACCEPTED)
    scene.ended("m3", MAYBE_SENT)
    assert under_way(scene) == {A: 1, B: 2}
    assert accounts.outstanding(scene.client, scene.rules) == {A: 2, B: 3}
    for name in ("m0", "m2"):
        scene.told(name, DELIVRD)
    scene.ended("m4", REFUSED, scope="recipient")
    scene.run_out("m5")
    assert accounts.outstanding(scene.client, scene.rules) == {A: 1, B: 0}
    # Without a file that names it, it is known all the same.
    one = replace(scene.rules, accounts=(), routes=())
    assert accounts.outstanding(scene.client, one) == {A: 1, B: 0}
    scene.check_live("m1", "m3", "m5")


def test_who_does_not_know_accounts_is_shut_out_when_there_are_some(
    client: redis.Redis, settings: Settings, scene: Several
) -> None:
    accounts.introduce(client, settings.rules)
    assert not client.exists(keys.ACCOUNTS, keys.SCHEMA)
    accounts.introduce(client, scene.rules)
    assert client.smembers(keys.ACCOUNTS) == {B}
    assert client.hget(keys.SCHEMA, "readable_by") == "3"
    client.delete(keys.ACCOUNTS, keys.SCHEMA)  # A failover undid it.
    scene.claim()
    assert client.smembers(keys.ACCOUNTS) == {B}
    assert client.hget(keys.SCHEMA, "readable_by") == "3"


def test_one_who_knows_no_accounts_finishes_what_they_began(
    client: redis.Redis, settings: Settings, scene: Several
) -> None:
    """As a worker does that has not got the file yet."""
    other = Several(client, settings)
    for name in ("m1", "m2", "m3"):
        scene.enter(name)
    scene.pause(A)
    for name in ("m1", "m2", "m3"):
        assert scene.at(name) == B
    assert other.ended("m1", ACCEPTED) == "accepted"
    assert other.told("m1", DELIVRD) == "delivered"
    assert other.ended("m2", REFUSED) == "failed"
    other.run_out("m3")
    assert accounts.outstanding(client, scene.rules)[A] == 0
    scene.check_live("m3")
    assert math.isclose(other.control.rate(B).limit, settings.rate_per_s)


def test_a_step_back_of_the_clock_moves_what_each_account_has(scene: Several) -> None:
    accounts.introduce(scene.client, scene.rules)
    scene.claim()
    ahead_us = scene.now_us() + 3_600_000_000
    for account in (A, B):
        scene.client.hset(keys.at_account(keys.RATE, account), "tat", ahead_us)
        scene.client.zadd(keys.at_account(keys.CALLS, account), {"1 earlier": ahead_us})
        scene.client.lpush(keys.at_account(keys.RECENT_ATTEMPTS, account), ahead_us // 1000)
    scene.client.hset(keys.SCHEMA, "now", ahead_us // 1000)
    scene.claim()
    for account in (A, B):
        tat = scene.client.hget(keys.at_account(keys.RATE, account), "tat")
        called = scene.client.zscore(keys.at_account(keys.CALLS, account), "1 earlier")
        (failed,) = scene.client.lrange(keys.at_account(keys.RECENT_ATTEMPTS, account), 0, -1)
        assert int(str(tat)) <= scene.now_us() + 2_000_000
        assert float(str(called)) <= scene.now_us()
        assert int(failed) <= scene.now_ms()


def test_a_test_number_takes_nothing_from_an_account(build: Build) -> None:
    scene = build(routes=(Route((B, A), weights=(1, 1)),), test_numbers=(("138", "MK:0001"),))
    scene.enter()
    admitted = scene.admitted()
    assert admitted.is_test
    assert not scene.client.exists(keys.WEIGHTS, keys.at_account(keys.CALLS, B), keys.CALLS)
    scene.pause(B)
    scene.enter("m2")
    assert scene.at("m2") == A


def test_a_blacklist_of_an_accounts_own_holds_the_number_there(scene: Several) -> None:
    channel = stat(
        *("MA:0027", "permanent"),
        scope="route",
        suppress_ms=86_400_000,
        suppress_lanes=(Lane.BULK,),
    )
    scene.enter("m1", lane="bulk")
    assert scene.at("m1") == A
    scene.ended("m1", ACCEPTED)
    assert scene.told("m1", channel) == "deferred"
    assert not scene.client.exists(keys.SUPPRESSED)
    for name, lane, account in (("m2", "bulk", B), ("m3", "notice", A)):
        scene.enter(name, lane=lane)
        assert scene.at(name) == account
    scene.ended("m2", ACCEPTED)
    scene.told("m2", replace(channel, scope="recipient"))
    assert scene.client.hlen(keys.SUPPRESSED) == 1


def test_a_number_on_the_blacklist_of_each_account_is_suppressed_and_not_too_frequent(
    scene: Several,
) -> None:
    channel = stat("MA:0027", "permanent", scope="route", suppress_ms=10 * 86_400_000)
    scene.enter("m1", lane="bulk")
    for account, state in ((A, "deferred"), (B, "failed")):
        assert scene.at("m1") == account
        scene.ended("m1", ACCEPTED)
        assert scene.told("m1", channel) == state
        scene.claim()
    scene.enter("m2", lane="bulk")
    assert scene.stays("m2") == "ended"
    status = scene.status("m2")
    assert (status.state, status.reason) == ("failed", "local:suppressed")
    assert status.detail == "suppressed: on the blacklist of each account of its route"
    assert status.allowed_at is not None
    assert status.allowed_at.timestamp() > scene.now_ms() / 1000 + 9 * 86_400


def test_lanes_of_which_no_account_sends_are_closed(build: Build) -> None:
    routes = (Route((B,), lane=Lane.BULK), Route((A,), lane=Lane.OTP), Route((B, A)))
    scene = build(routes=routes)
    assert scene.claim().closed == frozenset()
    scene.pause(B)
    due = scene.claim()
    assert (due.lanes, due.closed) == ("open", {Lane.BULK})
    scene.pause(A)
    due = scene.claim()
    assert (due.lanes, due.closed) == ("closed", frozenset())
    # What waits in a closed lane is not lost.
    scene.control.resume("account", "test")
    for name in ("m1", "m2"):
        scene.enter(name, lane="bulk")
    scene.client.hset(keys.message("m1"), "published", 1)
    for _ in range(3):
        scene.client.zadd(keys.TIMERS, {"m1": 1}, xx=True)
        assert scene.ledger.claim(resend_wait_s=1.0, oldest={Lane.BULK: ["m2"]}).wake == ()
