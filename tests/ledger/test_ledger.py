"""The ledger on a real server. A timer "runs out" by being set to the past, not by waiting."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis

from harness.scene import DELIVRD, PHONE, Scene, stat
from smsq import keys
from smsq.contract import FINAL, Lane, State
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import NEXT, Outcome
from smsq_worker.ledger import Rejected, Report

CODE = "482913"
BLACKLISTED = stat("MA:0001", "permanent")
TIMED_OUT = stat("MO:0254", "transient", 60, maybe_sent=True)
ROUTE = stat("MA:0003", "transient", 60)
UPSTREAM = stat("MO:9999", "unknown", counted_as="reports:other")
TAKEN = stat("ACCEPTD", "pending")


# Entering


def test_an_entered_message_is_queued_under_a_timer(scene: Scene) -> None:
    assert scene.enter(reference="r1") is State.QUEUED
    assert scene.client.zscore(keys.TIMERS, "m1")
    status = scene.status()
    assert (status.state, status.lane, status.template) == ("queued", "notice", "SMS_1001")
    assert (status.phone, status.reference) == ("138****8000", "r1")
    assert status.enqueued_at.utcoffset() is not None


def test_entering_the_same_id_again_changes_nothing(scene: Scene) -> None:
    scene.enter()
    scene.accept()
    before = scene.client.hgetall(keys.message("m1"))
    assert scene.enter(lane="otp") is State.ACCEPTED
    assert scene.client.hgetall(keys.message("m1")) == before


def test_a_second_message_with_the_same_key_names_the_first(scene: Scene) -> None:
    scene.enter("first", key="login-1")
    assert scene.enter("m1", key="login-1") is State.DUPLICATE
    assert scene.status().reason == "duplicate:first"
    assert scene.client.zscore(keys.TIMERS, "m1") is None
    assert isinstance(scene.ledger.admit("m1"), Rejected)


def test_the_first_message_may_be_entered_twice_under_its_key(scene: Scene) -> None:
    assert scene.enter("m1", key="login-1") is State.QUEUED
    assert scene.enter("m1", key="login-1") is State.QUEUED


def test_a_key_is_kept_as_a_digest_for_a_day(scene: Scene) -> None:
    scene.enter(key=f"login-{PHONE}")
    found = list(scene.client.scan_iter("smsq:k:*"))
    assert sorted(map(len, found)) == [len("smsq:k:") + 32, len("smsq:k::fp") + 32]
    for one in found:
        assert PHONE not in one
        assert 86_300 < scene.client.ttl(one) <= 86_400


def test_a_message_with_send_at_waits_and_its_ttl_begins_then(scene: Scene) -> None:
    seconds, _ = scene.client.time()
    assert scene.enter(send_at=seconds + 86_400, ttl_s=60) is State.DEFERRED
    assert scene.client.zscore(keys.TIMERS, "m1") == (seconds + 86_400) * 1000
    assert int(scene.client.hget(keys.message("m1"), "expires")) == (seconds + 86_460) * 1000
    assert isinstance(scene.ledger.admit("m1"), Rejected)
    scene.wake()
    assert scene.go() == 1


def test_a_send_at_in_the_past_goes_at_once(scene: Scene) -> None:
    assert scene.enter(send_at=1_000_000) is State.QUEUED


# Admitting


def test_a_message_goes_once(scene: Scene) -> None:
    scene.enter()
    go = scene.admitted()
    assert (go.attempt, go.phone, go.template, go.code) == (1, PHONE, "SMS_1001", CODE)
    assert scene.ledger.admit("m1") == Rejected("copy", State.SENDING)


def test_nothing_goes_that_nobody_entered(scene: Scene) -> None:
    assert scene.ledger.admit("m1") == Rejected("unknown", None)


def test_a_message_whose_ttl_is_over_expires_instead_of_going(scene: Scene) -> None:
    scene.enter()
    scene.client.hset(keys.message("m1"), "expires", 1)
    assert scene.ledger.admit("m1") == Rejected("expired", State.EXPIRED)


def test_a_message_whose_payload_was_evicted_fails_and_says_so(scene: Scene) -> None:
    scene.enter()
    scene.client.delete(keys.payload("m1"))
    scene.ledger.admit("m1")
    assert (scene.state(), scene.status().reason) == ("failed", "local:lost")


# Recording


def test_an_accepted_call_waits_for_its_report(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    status = scene.status()
    assert status.state == "accepted"
    assert status.accepted_at is not None
    assert [(a.n, a.outcome, a.mid) for a in status.attempts] == [(1, "accepted", "A1")]
    assert scene.client.get(keys.mid("A1")) == "1 m1"


def test_a_refused_call_fails_with_the_first_word_of_the_detail(scene: Scene) -> None:
    scene.enter()
    scene.ledger.record("m1", scene.go(), Outcome.REFUSED, detail="gateway:400 校验失败")
    assert (scene.state(), scene.status().reason) == ("failed", "gateway:400")
    assert scene.status().attempts[0].detail == "gateway:400 校验失败"


def test_a_call_that_was_not_sent_waits_and_goes_again_without_limit_but_ttl(scene: Scene) -> None:
    scene.enter()
    for attempt in range(1, 31):
        assert scene.go() == attempt
        scene.record("m1", Outcome.NOT_SENT, attempt=attempt, wait_s=60)
        assert scene.state() == "deferred"
        scene.wake()
    assert len(scene.status().attempts) <= 11
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_wait_never_goes_past_the_end_of_the_ttl(scene: Scene) -> None:
    scene.enter(ttl_s=60)
    scene.go()
    scene.record("m1", Outcome.NOT_SENT, wait_s=300)
    expires = int(scene.client.hget(keys.message("m1"), "expires"))
    assert scene.client.zscore(keys.TIMERS, "m1") == expires
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("expired", None)


def test_doubt_is_resent_within_the_budget_and_each_resend_is_counted(scene: Scene) -> None:
    scene.enter()
    for attempt in (1, 2):
        scene.go()
        scene.record("m1", Outcome.MAYBE_SENT)
        assert scene.state() == "deferred"
        scene.wake()
        assert scene.ledger.counters().get("possible_duplicates", 0) == attempt - 1
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")
    assert scene.ledger.counters()["possible_duplicates"] == 2


def test_doubt_is_held_where_the_policy_says_so(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)
    assert scene.state() == "held"
    assert scene.client.zscore(keys.TIMERS, "m1") is None
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_doubtful_message_whose_ttl_ends_has_not_expired(scene: Scene) -> None:
    """Expired means "was not sent", and that nobody knows here."""
    scene.enter()
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT, wait_s=1)
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")


def test_a_result_recorded_twice_counts_once(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", DELIVRD)
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid="A1")
    assert scene.state() == "delivered"
    assert scene.ledger.counters()["calls:accepted"] == 1


def test_a_result_of_an_unknown_message_or_attempt_is_refused(scene: Scene) -> None:
    assert scene.ledger.record("nobody", 1, Outcome.ACCEPTED, detail="") is None
    scene.enter()
    scene.go()
    assert scene.ledger.record("m1", 2, Outcome.ACCEPTED, detail="") is None
    assert scene.state() == "sending"


# Leases


def test_a_call_whose_worker_died_is_in_doubt(scene: Scene) -> None:
    scene.enter()
    scene.go()
    assert scene.run_out() == []
    assert scene.state() == "deferred"
    assert scene.status().attempts[0].outcome == "maybe_sent"
    scene.wake()
    assert scene.go() == 2


@pytest.mark.parametrize("resend_is", ["waiting", "queued"])
def test_a_late_answer_cancels_a_resend_that_has_not_begun(scene: Scene, resend_is: str) -> None:
    scene.enter()
    scene.go()
    scene.run_out()
    if resend_is == "queued":
        scene.wake()
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid="A1")
    assert scene.state() == "accepted"
    assert isinstance(scene.ledger.admit("m1"), Rejected)
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_late_answer_after_the_resend_began_makes_its_mid_known_and_no_more(scene: Scene) -> None:
    scene.enter()
    scene.go()
    scene.run_out()
    scene.wake()
    scene.go()
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid="A1")
    assert scene.state() == "sending"
    scene.report_on("A1", DELIVRD)
    assert scene.state() == "delivered"
    scene.record("m1", Outcome.ACCEPTED, attempt=2, mid="A2")
    assert scene.state() == "delivered"
    assert [a.mid for a in scene.status().attempts] == ["A1", "A2"]


def test_a_late_answer_frees_a_held_message(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.run_out()
    assert scene.state() == "held"
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid="A1")
    assert scene.state() == "accepted"


# Reports


@pytest.mark.parametrize(
    ("report", "state", "reason"),
    [
        pytest.param(DELIVRD, "delivered", None, id="delivered"),
        pytest.param(BLACKLISTED, "failed", "report:MA:0001", id="permanent"),
        pytest.param(TIMED_OUT, "deferred", None, id="transient"),
        pytest.param(UPSTREAM, "accepted", None, id="unknown"),
        pytest.param(TAKEN, "accepted", None, id="pending"),
    ],
)
def test_a_report_moves_an_accepted_message(
    scene: Scene, report: Report, state: str, reason: str | None
) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", report)
    status = scene.status()
    assert (status.state, status.reason, status.stat) == (
        state,
        reason,
        report.stat,
    )


def test_an_early_report_is_parked_and_applied_with_its_mid(scene: Scene) -> None:
    scene.enter()
    scene.go()
    assert scene.report_on("A1", DELIVRD) == "parked"
    assert scene.client.zrange(keys.PARKED, 0, -1) == ["A1"]
    scene.record("m1", Outcome.ACCEPTED, attempt=1, mid="A1")
    assert (scene.state(), scene.status().stat) == ("delivered", "DELIVRD")
    assert scene.client.exists(keys.early("A1"), keys.PARKED) == 0


def test_parked_reports_are_bounded_and_kept_for_the_wait(scene: Scene, settings: Settings) -> None:
    for _ in range(40):
        scene.report_on("nobody", DELIVRD)
    assert scene.client.llen(keys.early("nobody")) == 16
    assert 0 < scene.client.ttl(keys.early("nobody")) <= settings.report_wait_s


def test_delivered_is_the_last_word(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    for report in (DELIVRD, BLACKLISTED, TIMED_OUT, UPSTREAM, DELIVRD):
        scene.report_on("A1", report)
    status = scene.status()
    assert (status.state, status.reason, status.stat) == (
        "delivered",
        None,
        "DELIVRD",
    )


def test_delivered_corrects_a_failure(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", BLACKLISTED)
    scene.report_on("A1", DELIVRD)
    assert (scene.state(), scene.status().reason) == ("delivered", None)


def test_transient_reports_are_resent_within_the_budget(scene: Scene) -> None:
    scene.enter()
    for mid in ("A1", "A2", "A3"):
        scene.accept(mid=mid)
        scene.report_on(mid, TIMED_OUT)
        if mid != "A3":
            assert scene.state() == "deferred"
            scene.wake()
    assert (scene.state(), scene.status().reason) == ("failed", "report:MO:0254")
    assert scene.ledger.counters()["possible_duplicates"] == 2


def test_a_resend_of_what_certainly_was_not_sent_is_no_possible_duplicate(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", ROUTE)
    scene.wake()
    scene.go()
    assert scene.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_transient_report_that_may_have_been_sent_is_held_by_policy(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.accept(mid="A1")
    scene.report_on("A1", TIMED_OUT)
    assert scene.state() == "held"
    scene.report_on("A1", DELIVRD)
    assert scene.state() == "delivered"


def test_a_transient_report_after_the_ttl_fails(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.client.hset(keys.message("m1"), "expires", 1)
    scene.report_on("A1", TIMED_OUT)
    assert (scene.state(), scene.status().reason) == ("failed", "report:MO:0254")


def test_a_doubled_transient_report_uses_the_budget_once(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", TIMED_OUT)
    scene.report_on("A1", TIMED_OUT)
    assert scene.client.hget(keys.message("m1"), "resends") == "1"


def test_a_failure_of_an_older_attempt_does_not_stop_the_newer(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", TIMED_OUT)
    scene.wake()
    scene.accept(mid="A2")
    scene.report_on("A1", BLACKLISTED)
    assert scene.state() == "accepted"
    assert [a.stat for a in scene.status().attempts] == ["MA:0001", None]


def test_a_late_delivery_report_cancels_the_resend(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.report_on("A1", TIMED_OUT)
    scene.report_on("A1", DELIVRD)
    assert scene.state() == "delivered"
    assert isinstance(scene.ledger.admit("m1"), Rejected)


def test_a_message_without_a_report_becomes_unreported_and_a_late_one_moves_it_on(
    scene: Scene,
) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.run_out()
    assert scene.state() == "unreported"
    scene.report_on("A1", UPSTREAM)
    assert scene.state() == "unreported"
    scene.report_on("A1", TIMED_OUT)
    assert (scene.state(), scene.status().reason) == ("failed", "report:MO:0254")


# What waits, and what stays


def test_a_wake_up_that_was_not_published_is_published_by_the_scheduler(scene: Scene) -> None:
    scene.enter()
    scene.entrance.unpublished("m1")
    due = scene.ledger.claim(resend_wait_s=1, empty=[])
    assert due.wake == (("m1", Lane.NOTICE),)
    assert scene.state() == "queued"


@pytest.mark.parametrize("state", ["sending", "accepted", "deferred"])
def test_a_publication_that_seemed_to_fail_but_arrived_disturbs_nothing(
    scene: Scene, state: str
) -> None:
    scene.enter()
    attempt = scene.go()
    if state == "accepted":
        scene.record("m1", Outcome.ACCEPTED, attempt=attempt, mid="A1")
    elif state == "deferred":
        scene.record("m1", Outcome.NOT_SENT, attempt=attempt, wait_s=60)
    scene.entrance.unpublished("m1")
    assert scene.ledger.claim(resend_wait_s=1, empty=[]).wake == ()
    assert scene.state() == state


def test_a_message_behind_others_of_its_lane_is_not_woken_up_again(scene: Scene) -> None:
    scene.enter()
    assert scene.run_out() == []


def test_a_message_is_woken_up_again_where_its_queue_is_empty(scene: Scene) -> None:
    scene.enter()
    scene.client.zadd(keys.TIMERS, {"m1": 1})
    due = scene.ledger.claim(resend_wait_s=1, empty=[Lane.NOTICE])
    assert due.wake == (("m1", Lane.NOTICE),)


def look_again(scene: Scene, oldest: list[str], name: str = "m1") -> list[str]:
    """Let a message's timer run out while these are the oldest wake-up of its queue."""
    scene.client.zadd(keys.TIMERS, {name: 1})
    wake = scene.ledger.claim(resend_wait_s=1, oldest={Lane.NOTICE: oldest}).wake
    return [woken for woken, _ in wake]


def an_old_wake_up(scene: Scene, name: str = "m1") -> None:
    scene.enter(name)
    scene.client.hincrby(keys.message(name), "published", -60_000)


def test_a_message_whose_wake_up_left_its_queue_is_woken_up_at_the_second_look(
    scene: Scene,
) -> None:
    an_old_wake_up(scene)
    scene.enter("later")
    assert look_again(scene, ["later"]) == []
    assert look_again(scene, ["later"]) == ["m1"]
    assert look_again(scene, ["later"]) == []


@pytest.mark.parametrize("oldest", [["m1"], ["earlier"], ["m1", "later"], ["gone"], [""], ["sent"]])
def test_a_message_whose_wake_up_may_be_in_its_queue_is_not_woken_up(
    scene: Scene, oldest: list[str]
) -> None:
    """However many of its lane have been sent before it meanwhile."""
    an_old_wake_up(scene, "earlier")
    an_old_wake_up(scene)
    scene.enter("later")
    scene.enter("sent")
    scene.go("sent")
    for _ in range(3):
        assert look_again(scene, oldest) == []


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("per_s", "queued", "wait_ms"),
    [(10, 1_000_000, HOUR_MS), (10, 6_000, 600_000), (10, 5, 30_000), (1000, 1_000_000, 1_000_000)],
)
def test_an_old_message_is_looked_at_again_when_its_lane_would_be_empty(
    client: redis.Redis, settings: Settings, per_s: float, queued: int, wait_ms: int
) -> None:
    """Its wake-up may be among the last of its queue, or be lost with a worker that had it."""
    scene = Scene(client, replace(settings, rate_per_s=per_s))
    scene.enter()
    client.hincrby(keys.message("m1"), "published", -HOUR_MS)
    client.hset(keys.LIVE, "notice:queued", queued)
    assert look_again(scene, ["m1"]) == []
    seconds, micros = client.time()
    left_ms = client.zscore(keys.TIMERS, "m1") - seconds * 1000 - micros / 1000
    assert wait_ms - 10_000 < left_ms <= wait_ms + 10_000


def test_a_message_that_a_worker_has_in_hand_is_not_woken_up(scene: Scene) -> None:
    an_old_wake_up(scene)
    scene.enter("later")
    assert look_again(scene, ["later"]) == []
    scene.enter("malformed")
    scene.client.hset(keys.message("malformed"), "expires", "soon")
    scene.ledger.in_hand(["malformed", "m1", "gone"])
    assert scene.client.zscore(keys.TIMERS, "gone") is None
    assert scene.client.hget(keys.message("m1"), "overtaken") is None
    assert look_again(scene, ["later"]) == []


def test_while_sending_is_paused_nothing_is_taken_for_lost(scene: Scene) -> None:
    an_old_wake_up(scene)
    scene.enter("later")
    pause = {"cause": "operator", "detail": "", "since": 1, "probe_at": 1}
    scene.client.hset(keys.PAUSES, "account", json.dumps(pause))
    for _ in range(3):
        assert look_again(scene, ["later"]) == []


def test_a_claim_that_was_not_published_is_made_again(scene: Scene) -> None:
    """The worker died between the ledger's answer and the publication."""
    scene.enter()
    scene.go()
    scene.record("m1", Outcome.NOT_SENT, wait_s=60)
    scene.wake()
    assert scene.state() == "queued"
    assert scene.client.zscore(keys.TIMERS, "m1")


def test_a_timer_of_a_message_that_is_gone_is_removed(scene: Scene) -> None:
    scene.client.zadd(keys.TIMERS, {"gone": 1})
    scene.ledger.claim(resend_wait_s=1, empty=[])
    assert scene.client.zcard(keys.TIMERS) == 0


def test_the_claim_tells_when_the_next_timer_runs_out(scene: Scene) -> None:
    assert scene.ledger.claim(resend_wait_s=1, empty=[]).next_s is None
    scene.enter()
    next_s = scene.ledger.claim(resend_wait_s=1, empty=[]).next_s
    assert next_s is not None
    assert 0 < next_s <= 30.001


def test_a_final_message_keeps_neither_number_nor_code_and_goes_in_time(
    scene: Scene, settings: Settings
) -> None:
    scene.enter(reference="r1")
    scene.accept(mid="A1")
    scene.report_on("A1", DELIVRD)
    everything = json.dumps([scene.client.hgetall(keys.message("m1")), scene.client.keys()])
    assert PHONE not in everything
    assert CODE not in everything
    assert scene.client.exists(keys.payload("m1")) == 0
    assert scene.client.zscore(keys.TIMERS, "m1") is None
    assert 0 < scene.client.ttl(keys.message("m1")) <= settings.retention_s
    assert scene.client.ttl(keys.mid("A1")) > 0


def test_reports_taken_in_stay_until_they_are_reconciled(scene: Scene) -> None:
    scene.enter()
    scene.accept(mid="A1")
    scene.ledger.take_in([("A1", "DELIVRD"), ("A1", "DELIVRD"), ("B2", "DELIVRD")], wake_after_s=0)
    assert sorted(scene.ledger.claim_reports(wake_after_s=60)) == [
        ("A1", "DELIVRD"),
        ("B2", "DELIVRD"),
    ]
    assert scene.ledger.claim_reports(wake_after_s=60) == []
    scene.report_on("A1", DELIVRD)
    assert scene.client.zrange(keys.INBOX, 0, -1) == ['["B2", "DELIVRD"]']


# The table


def test_every_state_has_its_ways() -> None:
    assert set(NEXT) == set(State)
    for final in FINAL:
        assert NEXT[final] <= {State.DELIVERED, State.FAILED}
    assert not NEXT[State.DELIVERED]


def test_the_script_refuses_a_way_that_the_table_does_not_have(
    client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = replace_way(State.QUEUED, State.SENDING)
    monkeypatch.setattr("smsq_worker.ledger.scripts.NEXT", ways)
    scene = Scene(client, settings)
    scene.enter()
    assert scene.ledger.admit("m1") == Rejected("bad", None)
    assert "no way from queued to sending" in str(client.lrange("smsq:told", 0, -1))


def test_zero_resends_means_that_doubt_ends_a_message(
    client: redis.Redis, settings: Settings
) -> None:
    scene = Scene(client, settings, max_resends=0)
    scene.enter()
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")


def replace_way(before: State, without: State) -> dict[State, frozenset[State]]:
    return {**NEXT, before: NEXT[before] - {without}}
