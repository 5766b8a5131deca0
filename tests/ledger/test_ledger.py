"""The ledger on a real server. A timer "runs out" by being set to the past, not by waiting."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis

from smsq import keys
from smsq.contract import FINAL, Lane, Message, State, parse
from smsq.ledger_writer import LedgerWriter
from smsq.tracking import Status, read_status
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import NEXT, Outcome
from smsq_worker.ledger import Admitted, Ledger, Rejected, Report

PHONE = "13800138000"
CODE = "482913"
DELIVRD = Report("DELIVRD", "delivered", 0, maybe_sent=False, counted_as="reports:DELIVRD")
BLACKLISTED = Report("MA:0001", "permanent", 0, maybe_sent=False, counted_as="reports:MA:0001")
TIMED_OUT = Report("MO:0254", "transient", 60_000, maybe_sent=True, counted_as="reports:MO:0254")
ROUTE = Report("MA:0003", "transient", 60_000, maybe_sent=False, counted_as="reports:MA:0003")
UPSTREAM = Report("MO:9999", "unknown", 0, maybe_sent=False, counted_as="reports:other")
TAKEN = Report("ACCEPTD", "pending", 0, maybe_sent=False, counted_as="reports:ACCEPTD")


class Desk:
    """Short words for what happens to one message."""

    def __init__(self, client: redis.Redis, ledger: Ledger, settings: Settings) -> None:
        self.client = client
        self.ledger = ledger
        self.entrance = LedgerWriter(client, settings)

    def enter(self, message_id: str = "m1", **options: object) -> State:
        return self.entrance.enter(message_id, message(**options))

    def go(self, message_id: str = "m1") -> Admitted:
        admission = self.ledger.admit(message_id)
        assert isinstance(admission, Admitted), admission
        return admission

    def record(self, attempt: int, outcome: Outcome, mid: str = "", wait_s: float = 0) -> None:
        self.ledger.record("m1", attempt, outcome, detail="said so", mid=mid, wait_s=wait_s)

    def accept(self, mid: str = "A1") -> None:
        self.record(self.go().attempt, Outcome.ACCEPTED, mid)

    def report(self, mid: str, report: Report) -> str:
        return self.ledger.report(mid, report.stat, report)[0]

    def run_out(self, message_id: str = "m1") -> list[str]:
        """Let the message's timer run out; give the ids to wake up."""
        assert self.client.zadd(keys.TIMERS, {message_id: 1}, xx=True, ch=True) in {0, 1}
        due = self.ledger.claim(resend_wait_s=1.0, empty=[])
        return [woken for woken, _ in due.wake]

    def run_out_of_ttl(self) -> None:
        self.client.hset(keys.message("m1"), "expires", 1)
        self.run_out()

    def wake(self) -> None:
        assert self.run_out() == ["m1"]

    @property
    def status(self) -> Status:
        status = read_status(self.client, "", "m1")
        assert status is not None
        return status

    @property
    def state(self) -> str:
        return self.status.state


def message(**options: object) -> Message:
    return parse((PHONE, "SMS_1001", CODE), options)


@pytest.fixture
def desk(client: redis.Redis, ledger: Ledger, settings: Settings) -> Desk:
    return Desk(client, ledger, settings)


# Entering


def test_an_entered_message_is_queued_under_a_timer(desk: Desk) -> None:
    assert desk.enter(reference="r1") is State.QUEUED
    assert desk.client.zscore(keys.TIMERS, "m1")
    status = desk.status
    assert (status.state, status.lane, status.template) == ("queued", "notice", "SMS_1001")
    assert (status.phone, status.reference) == ("138****8000", "r1")
    assert status.enqueued_at.utcoffset() is not None


def test_entering_the_same_id_again_changes_nothing(desk: Desk) -> None:
    desk.enter()
    desk.accept()
    before = desk.client.hgetall(keys.message("m1"))
    assert desk.enter(lane="otp") is State.ACCEPTED
    assert desk.client.hgetall(keys.message("m1")) == before


def test_a_second_message_with_the_same_key_names_the_first(desk: Desk) -> None:
    desk.enter("first", key="login-1")
    assert desk.enter("m1", key="login-1") is State.DUPLICATE
    assert desk.status.reason == "duplicate:first"
    assert desk.client.zscore(keys.TIMERS, "m1") is None
    assert isinstance(desk.ledger.admit("m1"), Rejected)


def test_the_first_message_may_be_entered_twice_under_its_key(desk: Desk) -> None:
    assert desk.enter("m1", key="login-1") is State.QUEUED
    assert desk.enter("m1", key="login-1") is State.QUEUED


def test_a_key_is_kept_as_a_digest_for_a_day(desk: Desk) -> None:
    desk.enter(key=f"login-{PHONE}")
    found = list(desk.client.scan_iter("smsq:k:*"))
    assert sorted(map(len, found)) == [len("smsq:k:") + 32, len("smsq:k::fp") + 32]
    for one in found:
        assert PHONE not in one
        assert 86_300 < desk.client.ttl(one) <= 86_400


def test_a_message_with_send_at_waits_and_its_ttl_begins_then(desk: Desk) -> None:
    seconds, _ = desk.client.time()
    assert desk.enter(send_at=seconds + 86_400, ttl_s=60) is State.DEFERRED
    assert desk.client.zscore(keys.TIMERS, "m1") == (seconds + 86_400) * 1000
    assert int(desk.client.hget(keys.message("m1"), "expires")) == (seconds + 86_460) * 1000
    assert isinstance(desk.ledger.admit("m1"), Rejected)
    desk.wake()
    assert desk.go().attempt == 1


def test_a_send_at_in_the_past_goes_at_once(desk: Desk) -> None:
    assert desk.enter(send_at=1_000_000) is State.QUEUED


# Admitting


def test_a_message_goes_once(desk: Desk) -> None:
    desk.enter()
    go = desk.go()
    assert (go.attempt, go.phone, go.template, go.code) == (1, PHONE, "SMS_1001", CODE)
    assert desk.ledger.admit("m1") == Rejected("copy", State.SENDING)


def test_nothing_goes_that_nobody_entered(desk: Desk) -> None:
    assert desk.ledger.admit("m1") == Rejected("unknown", None)


def test_a_message_whose_ttl_is_over_expires_instead_of_going(desk: Desk) -> None:
    desk.enter()
    desk.client.hset(keys.message("m1"), "expires", 1)
    assert desk.ledger.admit("m1") == Rejected("expired", State.EXPIRED)


def test_a_message_whose_payload_was_evicted_fails_and_says_so(desk: Desk) -> None:
    desk.enter()
    desk.client.delete(keys.payload("m1"))
    desk.ledger.admit("m1")
    assert (desk.state, desk.status.reason) == ("failed", "local:lost")


# Recording


def test_an_accepted_call_waits_for_its_report(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    status = desk.status
    assert status.state == "accepted"
    assert status.accepted_at is not None
    assert [(a.n, a.outcome, a.mid) for a in status.attempts] == [(1, "accepted", "A1")]
    assert desk.client.get(keys.mid("A1")) == "1 m1"


def test_a_refused_call_fails_with_the_first_word_of_the_detail(desk: Desk) -> None:
    desk.enter()
    desk.ledger.record("m1", desk.go().attempt, Outcome.REFUSED, detail="gateway:400 校验失败")
    assert (desk.state, desk.status.reason) == ("failed", "gateway:400")
    assert desk.status.attempts[0].detail == "gateway:400 校验失败"


def test_a_call_that_was_not_sent_waits_and_goes_again_without_limit_but_ttl(desk: Desk) -> None:
    desk.enter()
    for attempt in range(1, 31):
        assert desk.go().attempt == attempt
        desk.record(attempt, Outcome.NOT_SENT, wait_s=60)
        assert desk.state == "deferred"
        desk.wake()
    assert len(desk.status.attempts) <= 11
    assert desk.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_wait_never_goes_past_the_end_of_the_ttl(desk: Desk) -> None:
    desk.enter(ttl_s=60)
    desk.record(desk.go().attempt, Outcome.NOT_SENT, wait_s=300)
    expires = int(desk.client.hget(keys.message("m1"), "expires"))
    assert desk.client.zscore(keys.TIMERS, "m1") == expires
    desk.run_out_of_ttl()
    assert (desk.state, desk.status.reason) == ("expired", None)


def test_doubt_is_resent_within_the_budget_and_each_resend_is_counted(desk: Desk) -> None:
    desk.enter()
    for attempt in (1, 2):
        desk.record(desk.go().attempt, Outcome.MAYBE_SENT)
        assert desk.state == "deferred"
        desk.wake()
        assert desk.ledger.counters().get("possible_duplicates", 0) == attempt - 1
    desk.record(desk.go().attempt, Outcome.MAYBE_SENT)
    assert (desk.state, desk.status.reason) == ("failed", "local:resends")
    assert desk.ledger.counters()["possible_duplicates"] == 2


def test_doubt_is_held_where_the_policy_says_so(desk: Desk) -> None:
    desk.enter(on_ambiguous="hold")
    desk.record(desk.go().attempt, Outcome.MAYBE_SENT)
    assert desk.state == "held"
    assert desk.client.zscore(keys.TIMERS, "m1") is None
    assert desk.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_doubtful_message_whose_ttl_ends_has_not_expired(desk: Desk) -> None:
    """Expired means "was not sent", and that nobody knows here."""
    desk.enter()
    desk.record(desk.go().attempt, Outcome.MAYBE_SENT, wait_s=1)
    desk.run_out_of_ttl()
    assert (desk.state, desk.status.reason) == ("failed", "local:resends")


def test_a_result_recorded_twice_counts_once(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", DELIVRD)
    desk.record(1, Outcome.ACCEPTED, "A1")
    assert desk.state == "delivered"
    assert desk.ledger.counters()["calls:accepted"] == 1


def test_a_result_of_an_unknown_message_or_attempt_is_refused(desk: Desk) -> None:
    assert desk.ledger.record("nobody", 1, Outcome.ACCEPTED, detail="") is None
    desk.enter()
    desk.go()
    assert desk.ledger.record("m1", 2, Outcome.ACCEPTED, detail="") is None
    assert desk.state == "sending"


# Leases


def test_a_call_whose_worker_died_is_in_doubt(desk: Desk) -> None:
    desk.enter()
    desk.go()
    assert desk.run_out() == []
    assert desk.state == "deferred"
    assert desk.status.attempts[0].outcome == "maybe_sent"
    desk.wake()
    assert desk.go().attempt == 2


@pytest.mark.parametrize("resend_is", ["waiting", "queued"])
def test_a_late_answer_cancels_a_resend_that_has_not_begun(desk: Desk, resend_is: str) -> None:
    desk.enter()
    desk.go()
    desk.run_out()
    if resend_is == "queued":
        desk.wake()
    desk.record(1, Outcome.ACCEPTED, "A1")
    assert desk.state == "accepted"
    assert isinstance(desk.ledger.admit("m1"), Rejected)
    assert desk.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_late_answer_after_the_resend_began_makes_its_mid_known_and_no_more(desk: Desk) -> None:
    desk.enter()
    desk.go()
    desk.run_out()
    desk.wake()
    desk.go()
    desk.record(1, Outcome.ACCEPTED, "A1")
    assert desk.state == "sending"
    desk.report("A1", DELIVRD)
    assert desk.state == "delivered"
    desk.record(2, Outcome.ACCEPTED, "A2")
    assert desk.state == "delivered"
    assert [a.mid for a in desk.status.attempts] == ["A1", "A2"]


def test_a_late_answer_frees_a_held_message(desk: Desk) -> None:
    desk.enter(on_ambiguous="hold")
    desk.go()
    desk.run_out()
    assert desk.state == "held"
    desk.record(1, Outcome.ACCEPTED, "A1")
    assert desk.state == "accepted"


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
    desk: Desk, report: Report, state: str, reason: str | None
) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", report)
    assert (desk.state, desk.status.reason, desk.status.stat) == (state, reason, report.stat)


def test_an_early_report_is_parked_and_applied_with_its_mid(desk: Desk) -> None:
    desk.enter()
    desk.go()
    assert desk.report("A1", DELIVRD) == "parked"
    assert desk.client.zrange(keys.PARKED, 0, -1) == ["A1"]
    desk.record(1, Outcome.ACCEPTED, "A1")
    assert (desk.state, desk.status.stat) == ("delivered", "DELIVRD")
    assert desk.client.exists(keys.early("A1"), keys.PARKED) == 0


def test_parked_reports_are_bounded_and_kept_for_the_wait(desk: Desk, settings: Settings) -> None:
    for _ in range(40):
        desk.report("nobody", DELIVRD)
    assert desk.client.llen(keys.early("nobody")) == 16
    assert 0 < desk.client.ttl(keys.early("nobody")) <= settings.report_wait_s


def test_delivered_is_the_last_word(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    for report in (DELIVRD, BLACKLISTED, TIMED_OUT, UPSTREAM, DELIVRD):
        desk.report("A1", report)
    assert (desk.state, desk.status.reason, desk.status.stat) == ("delivered", None, "DELIVRD")


def test_delivered_corrects_a_failure(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", BLACKLISTED)
    desk.report("A1", DELIVRD)
    assert (desk.state, desk.status.reason) == ("delivered", None)


def test_transient_reports_are_resent_within_the_budget(desk: Desk) -> None:
    desk.enter()
    for mid in ("A1", "A2", "A3"):
        desk.accept(mid)
        desk.report(mid, TIMED_OUT)
        if mid != "A3":
            assert desk.state == "deferred"
            desk.wake()
    assert (desk.state, desk.status.reason) == ("failed", "report:MO:0254")
    assert desk.ledger.counters()["possible_duplicates"] == 2


def test_a_resend_of_what_certainly_was_not_sent_is_no_possible_duplicate(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", ROUTE)
    desk.wake()
    desk.go()
    assert desk.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_transient_report_that_may_have_been_sent_is_held_by_policy(desk: Desk) -> None:
    desk.enter(on_ambiguous="hold")
    desk.accept("A1")
    desk.report("A1", TIMED_OUT)
    assert desk.state == "held"
    desk.report("A1", DELIVRD)
    assert desk.state == "delivered"


def test_a_transient_report_after_the_ttl_fails(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.client.hset(keys.message("m1"), "expires", 1)
    desk.report("A1", TIMED_OUT)
    assert (desk.state, desk.status.reason) == ("failed", "report:MO:0254")


def test_a_doubled_transient_report_uses_the_budget_once(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", TIMED_OUT)
    desk.report("A1", TIMED_OUT)
    assert desk.client.hget(keys.message("m1"), "resends") == "1"


def test_a_failure_of_an_older_attempt_does_not_stop_the_newer(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", TIMED_OUT)
    desk.wake()
    desk.accept("A2")
    desk.report("A1", BLACKLISTED)
    assert desk.state == "accepted"
    assert [a.stat for a in desk.status.attempts] == ["MA:0001", None]


def test_a_late_delivery_report_cancels_the_resend(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.report("A1", TIMED_OUT)
    desk.report("A1", DELIVRD)
    assert desk.state == "delivered"
    assert isinstance(desk.ledger.admit("m1"), Rejected)


def test_a_message_without_a_report_becomes_unreported_and_a_late_one_moves_it_on(
    desk: Desk,
) -> None:
    desk.enter()
    desk.accept("A1")
    desk.run_out()
    assert desk.state == "unreported"
    desk.report("A1", UPSTREAM)
    assert desk.state == "unreported"
    desk.report("A1", TIMED_OUT)
    assert (desk.state, desk.status.reason) == ("failed", "report:MO:0254")


# What waits, and what stays


def test_a_wake_up_that_was_not_published_is_published_by_the_clock(desk: Desk) -> None:
    desk.enter()
    desk.entrance.unpublished("m1")
    due = desk.ledger.claim(resend_wait_s=1, empty=[])
    assert due.wake == (("m1", Lane.NOTICE),)
    assert desk.state == "queued"


@pytest.mark.parametrize("state", ["sending", "accepted", "deferred"])
def test_a_publication_that_seemed_to_fail_but_arrived_disturbs_nothing(
    desk: Desk, state: str
) -> None:
    desk.enter()
    attempt = desk.go().attempt
    if state == "accepted":
        desk.record(attempt, Outcome.ACCEPTED, "A1")
    elif state == "deferred":
        desk.record(attempt, Outcome.NOT_SENT, wait_s=60)
    desk.entrance.unpublished("m1")
    assert desk.ledger.claim(resend_wait_s=1, empty=[]).wake == ()
    assert desk.state == state


def test_a_message_behind_others_of_its_lane_is_not_woken_up_again(desk: Desk) -> None:
    desk.enter()
    assert desk.run_out() == []


def test_a_message_is_woken_up_again_where_its_queue_is_empty(desk: Desk) -> None:
    desk.enter()
    desk.client.zadd(keys.TIMERS, {"m1": 1})
    due = desk.ledger.claim(resend_wait_s=1, empty=[Lane.NOTICE])
    assert due.wake == (("m1", Lane.NOTICE),)


def look_again(desk: Desk, oldest: list[str], name: str = "m1") -> list[str]:
    """Let a message's timer run out while these are the oldest wake-up of its queue."""
    desk.client.zadd(keys.TIMERS, {name: 1})
    wake = desk.ledger.claim(resend_wait_s=1, oldest={Lane.NOTICE: oldest}).wake
    return [woken for woken, _ in wake]


def an_old_wake_up(desk: Desk, name: str = "m1") -> None:
    desk.enter(name)
    desk.client.hincrby(keys.message(name), "published", -60_000)


def test_a_message_whose_wake_up_left_its_queue_is_woken_up_at_the_second_look(desk: Desk) -> None:
    an_old_wake_up(desk)
    desk.enter("later")
    assert look_again(desk, ["later"]) == []
    assert look_again(desk, ["later"]) == ["m1"]
    assert look_again(desk, ["later"]) == []


@pytest.mark.parametrize("oldest", [["m1"], ["earlier"], ["m1", "later"], ["gone"], [""], ["sent"]])
def test_a_message_whose_wake_up_may_be_in_its_queue_is_not_woken_up(
    desk: Desk, oldest: list[str]
) -> None:
    """However many of its lane have been sent before it meanwhile."""
    an_old_wake_up(desk, "earlier")
    an_old_wake_up(desk)
    desk.enter("later")
    desk.enter("sent")
    desk.go("sent")
    for _ in range(3):
        assert look_again(desk, oldest) == []


def test_a_message_that_a_worker_has_in_hand_is_not_woken_up(desk: Desk) -> None:
    an_old_wake_up(desk)
    desk.enter("later")
    assert look_again(desk, ["later"]) == []
    desk.ledger.in_hand(["m1", "gone"])
    assert desk.client.zscore(keys.TIMERS, "gone") is None
    assert desk.client.hget(keys.message("m1"), "overtaken") is None
    assert look_again(desk, ["later"]) == []


def test_while_sending_is_paused_nothing_is_taken_for_lost(desk: Desk) -> None:
    an_old_wake_up(desk)
    desk.enter("later")
    pause = {"cause": "operator", "detail": "", "since": 1, "probe_at": 1}
    desk.client.hset(keys.PAUSES, "account", json.dumps(pause))
    for _ in range(3):
        assert look_again(desk, ["later"]) == []


def test_a_claim_that_was_not_published_is_made_again(desk: Desk) -> None:
    """The worker died between the ledger's answer and the publication."""
    desk.enter()
    desk.record(desk.go().attempt, Outcome.NOT_SENT, wait_s=60)
    desk.wake()
    assert desk.state == "queued"
    assert desk.client.zscore(keys.TIMERS, "m1")


def test_a_timer_of_a_message_that_is_gone_is_removed(desk: Desk) -> None:
    desk.client.zadd(keys.TIMERS, {"gone": 1})
    desk.ledger.claim(resend_wait_s=1, empty=[])
    assert desk.client.zcard(keys.TIMERS) == 0


def test_the_claim_tells_when_the_next_timer_runs_out(desk: Desk) -> None:
    assert desk.ledger.claim(resend_wait_s=1, empty=[]).next_s is None
    desk.enter()
    next_s = desk.ledger.claim(resend_wait_s=1, empty=[]).next_s
    assert next_s is not None
    assert 0 < next_s <= 30


def test_a_final_message_keeps_neither_number_nor_code_and_goes_in_time(
    desk: Desk, settings: Settings
) -> None:
    desk.enter(reference="r1")
    desk.accept("A1")
    desk.report("A1", DELIVRD)
    everything = json.dumps([desk.client.hgetall(keys.message("m1")), desk.client.keys()])
    assert PHONE not in everything
    assert CODE not in everything
    assert desk.client.exists(keys.payload("m1")) == 0
    assert desk.client.zscore(keys.TIMERS, "m1") is None
    assert 0 < desk.client.ttl(keys.message("m1")) <= settings.retention_s
    assert desk.client.ttl(keys.mid("A1")) > 0


def test_reports_taken_in_stay_until_they_are_reconciled(desk: Desk) -> None:
    desk.enter()
    desk.accept("A1")
    desk.ledger.take_in([("A1", "DELIVRD"), ("A1", "DELIVRD"), ("B2", "DELIVRD")], wake_after_s=0)
    assert sorted(desk.ledger.claim_reports(wake_after_s=60)) == [
        ("A1", "DELIVRD"),
        ("B2", "DELIVRD"),
    ]
    assert desk.ledger.claim_reports(wake_after_s=60) == []
    desk.report("A1", DELIVRD)
    assert desk.client.zrange(keys.INBOX, 0, -1) == ['["B2", "DELIVRD"]']


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
    desk = Desk(client, Ledger(client, settings.rules), settings)
    desk.enter()
    assert desk.ledger.admit("m1") == Rejected("bad", None)
    assert "no way from queued to sending" in str(client.lrange("smsq:told", 0, -1))


def test_zero_resends_means_that_doubt_ends_a_message(
    client: redis.Redis, settings: Settings
) -> None:
    strict = Ledger(client, replace(settings.rules, max_resends=0))
    desk = Desk(client, strict, settings)
    desk.enter()
    desk.record(desk.go().attempt, Outcome.MAYBE_SENT)
    assert (desk.state, desk.status.reason) == ("failed", "local:resends")


def replace_way(before: State, without: State) -> dict[State, frozenset[State]]:
    return {**NEXT, before: NEXT[before] - {without}}
