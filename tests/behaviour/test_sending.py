"""What becomes of a message's attempts: answers, doubt, resends, and what an operator decides."""

from __future__ import annotations

import pytest

from harness.broken import OfAct, OfOutbox, broken_rules
from harness.scene import DELIVRD, PHONE_IS_OFF, stat
from harness.sides import DAY, Play
from smsq.memory import endings
from smsq.memory.message import Stored
from smsq_worker.domain.states import Outcome

POLICIES = ("resend", "hold")


def test_a_message_goes_once(play: Play) -> None:
    play.enter()
    assert play.go() == 1
    assert play.admit() == "copy"
    assert play.state() == "sending"


def test_what_was_accepted_waits_for_its_report(play: Play) -> None:
    play.enter()
    play.accept()
    status = play.status()
    assert (status.state, status.final) == ("accepted", False)
    assert status.accepted_at is not None
    (attempt,) = status.attempts
    assert (attempt.n, attempt.outcome, attempt.mid, attempt.stat) == (
        1, "accepted", "MID-m1-1", None
    )  # fmt: skip
    assert attempt.detail == "gateway:400 said so"


def test_what_was_refused_fails_with_the_first_word(play: Play) -> None:
    play.enter()
    play.call(Outcome.REFUSED)
    assert play.why() == ("failed", "gateway:400")
    assert play.status().certainly_not_sent
    assert play.admit() == "copy"


def test_what_was_not_sent_goes_again_until_its_ttl_is_over(play: Play) -> None:
    play.enter(ttl_s=600)
    for n in range(1, 6):
        assert play.call(Outcome.NOT_SENT) == "deferred"
        play.advance(61)
        assert (play.state(), len(play.status().attempts)) == ("queued", n)
    play.call(Outcome.NOT_SENT, wait_s=DAY)
    play.advance(300)
    assert play.why() == ("expired", None)


def test_a_doubt_is_resent_within_the_budget(play: Play) -> None:
    play.enter()
    for _ in range(2):
        assert play.call(Outcome.MAYBE_SENT) == "deferred"
        play.advance(61)
    assert play.call(Outcome.MAYBE_SENT) == "failed"
    assert play.why() == ("failed", "local:resends")
    assert not play.status().certainly_not_sent


def test_a_doubt_that_cannot_be_resent_in_time_fails(play: Play) -> None:
    play.enter(ttl_s=30)
    assert play.call(Outcome.MAYBE_SENT) == "failed"
    assert play.why() == ("failed", "local:resends")


def test_a_message_in_doubt_whose_ttl_ends_has_not_expired(play: Play) -> None:
    play.enter(ttl_s=90)
    play.call(Outcome.MAYBE_SENT)
    play.advance(91)
    play.admit()
    assert play.why() == ("failed", "local:resends")


def test_a_doubt_is_held_where_the_policy_says_so(play: Play) -> None:
    play.enter(on_ambiguous="hold")
    assert play.call(Outcome.MAYBE_SENT) == "held"
    play.advance(2 * DAY)
    assert play.state() == "held"


def test_a_held_message_is_dropped(play: Play) -> None:
    play.enter(on_ambiguous="hold")
    assert play.decide("m1", "drop") == "not held"
    play.call(Outcome.MAYBE_SENT)
    assert play.decide("m1", "drop") == "done"
    assert play.why() == ("failed", "local:dropped")
    assert play.decide("m1", "drop") == "not held"


def test_a_held_message_is_resent(play: Play) -> None:
    play.enter(on_ambiguous="hold", ttl_s=600)
    play.call(Outcome.MAYBE_SENT)
    assert play.decide("m1", "resend") == "done"
    assert play.state() == "deferred"
    play.advance(1)
    assert play.go() == 2


def test_a_held_message_whose_ttl_is_over_can_only_be_dropped(play: Play) -> None:
    play.enter(on_ambiguous="hold", ttl_s=600)
    play.call(Outcome.MAYBE_SENT)
    play.advance(601)
    assert play.decide("m1", "resend") == "too late"
    assert play.decide("m1", "drop") == "done"


@pytest.mark.parametrize(("policy", "state"), [("resend", "deferred"), ("hold", "held")])
def test_an_attempt_whose_worker_died_is_in_doubt(play: Play, policy: str, state: str) -> None:
    play.enter(on_ambiguous=policy, ttl_s=DAY)
    play.go()
    play.advance(60.5)
    assert play.state() == state
    (attempt,) = play.status().attempts
    assert (attempt.outcome, attempt.detail) == ("maybe_sent", "lease ran out")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_late_answer_ends_the_doubt(play: Play, policy: str) -> None:
    play.enter(on_ambiguous=policy)
    play.call(Outcome.MAYBE_SENT)
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) == "accepted"
    assert play.report(DELIVRD) == "delivered"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_late_not_sent_gives_back_what_the_doubt_cost(play: Play, policy: str) -> None:
    play.enter(on_ambiguous=policy, ttl_s=600)
    play.call(Outcome.MAYBE_SENT)
    assert play.record("m1", Outcome.NOT_SENT, attempt=1) == "deferred"
    play.advance(600)
    assert play.why() == ("expired", None)
    assert play.status().certainly_not_sent


@pytest.mark.parametrize("second", [Outcome.REFUSED, Outcome.NOT_SENT])
def test_a_late_answer_holds_where_the_next_attempt_comes_to_nothing(
    play: Play, second: Outcome
) -> None:
    play.enter()
    play.call(Outcome.MAYBE_SENT)
    play.advance(61)
    play.go()
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) == "sending"
    assert play.record("m1", second) == "accepted"
    assert play.report(DELIVRD, attempt=1) == "delivered"


def test_a_late_answer_that_was_reported_on_does_not(play: Play) -> None:
    play.enter()
    play.call(Outcome.MAYBE_SENT)
    play.advance(61)
    play.go()
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) == "sending"
    assert play.report(PHONE_IS_OFF, attempt=1) == "sending"
    assert play.record("m1", Outcome.NOT_SENT) == "deferred"


def test_a_late_answer_to_a_message_that_has_ended_is_told(play: Play) -> None:
    play.enter(on_ambiguous="hold")
    play.call(Outcome.MAYBE_SENT)
    play.decide("m1", "drop")
    assert play.record("m1", Outcome.ACCEPTED) == "failed"
    assert play.status().detail == "learnt later: call 1 was accepted after all"


def test_a_result_recorded_twice_counts_once(play: Play) -> None:
    play.enter()
    play.call(Outcome.NOT_SENT)
    before = play.status()
    assert play.record("m1", Outcome.ACCEPTED) == "deferred"
    assert play.status() == before


def test_a_result_of_nobodys_attempt_is_refused(play: Play) -> None:
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) is None
    play.enter()
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) is None
    assert play.state() == "queued"


def test_a_mid_of_two_messages_is_nobodys(play: Play) -> None:
    for name in ("m1", "m2"):
        play.enter(name)
        play.call(Outcome.ACCEPTED, name, mid="same")
    assert play.report_on("same", stat("MA:0001", "permanent")) == "parked"
    assert play.state("m1") == play.state("m2") == "accepted"


# --- the cases themselves -------------------------------------------------------------------------


BUDGET = test_a_doubt_is_resent_within_the_budget


def held(play: Play) -> None:
    test_a_doubt_is_held_where_the_policy_says_so(play)


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(Stored, "resends", 0), BUDGET),
    (OfOutbox(endings, "hold", endings.expire), held),
    (OfAct("shared/ends", "m.resends >= MAX_RESENDS", "false"), BUDGET),
    (OfAct("shared/ends", "if m.hold_on_doubt then", "if false then"), held),
    (
        OfAct("record", "known ~= 'maybe_sent')", "false)"),
        test_a_result_recorded_twice_counts_once,
    ),
)
