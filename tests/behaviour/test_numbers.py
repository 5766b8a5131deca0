"""What holds for a number: limits, suppression, and what the gateway does not take for a while."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.broken import OfAct, OfOutbox, broken_rules, nothing
from harness.scene import DELIVRD, OTHER_PHONE, stat
from harness.sides import DAY, HOUR, Play
from smsq.contract import Lane
from smsq.memory import reports
from smsq.memory.numbers import Numbers
from smsq_worker.domain.states import Outcome

BLACKLISTED = stat("MA:0001", "permanent", suppress_ms=round(30 * DAY * 1000))
FOR_BULK = stat(
    "MA:0001", "permanent", suppress_ms=round(30 * DAY * 1000), suppress_lanes=(Lane.BULK,)
)
TOO_OFTEN = stat("MK:1008", "transient", 600, hold_ms=600_000)
TOO_FREQUENT = ("failed", "local:frequency")
SUPPRESSED = ("failed", "local:suppressed")


def otp(play: Play, name: str, **options: str) -> int | str:
    play.enter(name, lane="otp", **options)
    return play.admit(name)


def test_a_second_otp_within_the_minute_fails_and_says_when_it_would_be_allowed(play: Play) -> None:
    assert otp(play, "m1") == 1
    assert otp(play, "m2") == "ended"
    status = play.status("m2")
    assert play.why("m2") == TOO_FREQUENT
    assert status.certainly_not_sent
    assert status.allowed_at == play.status("m1").attempts[0].started_at + timedelta(minutes=1)
    play.advance(60)
    assert otp(play, "m3") == 1


def test_each_limit_counts(play: Play) -> None:
    for n in range(5):
        assert otp(play, f"m{n}") == 1
        play.advance(61)
    assert otp(play, "m5") == "ended"  # five within the hour
    play.advance(HOUR - 5 * 61)
    assert otp(play, "m6") == 1
    for n in range(7, 11):
        play.advance(HOUR)
        assert otp(play, f"m{n}") == 1
    play.advance(HOUR)
    assert otp(play, "m11") == "ended"  # ten within the day
    play.advance(DAY)
    assert otp(play, "m12") == 1


def test_other_numbers_and_other_lanes_are_not_hit(play: Play) -> None:
    assert otp(play, "m1") == 1
    assert otp(play, "m2", phone=OTHER_PHONE) == 1
    play.enter("m3", lane="notice")
    assert play.admit("m3") == 1
    play.enter("m4", lane="notice")
    assert play.admit("m4") == 1


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.MAYBE_SENT])
def test_what_goes_again_is_no_other_message(play: Play, outcome: Outcome) -> None:
    assert otp(play, "m1") == 1
    play.record("m1", outcome, wait_s=1)
    play.advance(2)
    assert play.admit("m1") == 2
    play.advance(58)
    assert otp(play, "m2") == 1


def test_what_only_waits_counts_for_nothing(play: Play) -> None:
    play.enter("m1", lane="otp")
    assert otp(play, "m2") == 1


# --- suppression --------------------------------------------------------------------------------


def test_nothing_is_sent_to_a_suppressed_number(play: Play) -> None:
    play.suppress("asked us to", DAY)
    for lane in Lane:
        play.enter(lane, lane=lane)
        assert play.admit(lane) == "ended"
        assert play.why(lane) == SUPPRESSED
        assert play.status(lane).detail == "suppressed: asked us to"
    play.enter("other", phone=OTHER_PHONE)
    assert play.admit("other") == 1


def test_a_suppression_of_some_lanes_leaves_the_others(play: Play) -> None:
    play.suppress("adverts", DAY, [Lane.BULK])
    play.enter("m1", lane="bulk")
    assert play.admit("m1") == "ended"
    assert play.status("m1").detail == "suppressed: adverts (lane bulk)"
    assert otp(play, "m2") == 1


def test_a_suppression_ends_in_time(play: Play) -> None:
    play.suppress("for a day", DAY)
    play.advance(DAY + 1)
    play.enter()
    assert play.go() == 1


def test_an_operator_may_shorten_a_suppression(play: Play) -> None:
    play.suppress("for long", 30 * DAY)
    play.suppress("for a day", DAY)
    play.advance(DAY + 1)
    play.enter()
    assert play.go() == 1


def test_a_report_suppresses_its_number(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(BLACKLISTED)
    play.enter("m2")
    assert play.admit("m2") == "ended"
    assert play.status("m2").detail == "suppressed: MA:0001"


def test_a_report_does_so_in_its_lanes_alone(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(FOR_BULK)
    assert otp(play, "m2") == 1
    play.enter("m3", lane="bulk")
    assert play.admit("m3") == "ended"
    assert play.status("m3").detail == "suppressed: MA:0001 (lane bulk)"


def test_a_report_does_not_shorten_what_an_operator_said(play: Play) -> None:
    play.enter()
    play.accept()
    play.suppress("for ever", 300 * DAY)
    play.report(BLACKLISTED)
    play.advance(31 * DAY)
    play.enter("m2")
    assert play.admit("m2") == "ended"
    assert play.status("m2").detail == "suppressed: for ever"


def test_what_is_under_way_goes_on(play: Play) -> None:
    play.enter()
    play.go()
    play.suppress("too late", DAY)
    play.record("m1", Outcome.ACCEPTED)
    assert play.report(DELIVRD) == "delivered"


def test_a_report_on_a_message_that_has_ended_suppresses_nobody(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(DELIVRD)
    play.report(BLACKLISTED)
    play.enter("m2")
    assert play.go("m2") == 1


# --- the gateway's own limit --------------------------------------------------------------------


def test_the_gateways_limit_lets_others_wait(play: Play) -> None:
    play.enter("m1")
    play.accept("m1")
    play.report(TOO_OFTEN, "m1")
    play.enter("m2")
    assert play.admit("m2") == "deferred"
    assert play.state("m2") == "deferred"
    play.advance(601)
    assert play.go("m1") == 2
    assert play.go("m2") == 1


def test_what_cannot_wait_so_long_fails_at_once(play: Play) -> None:
    play.enter("m1")
    play.accept("m1")
    play.report(TOO_OFTEN, "m1")
    play.enter("m2", lane="otp")
    assert play.admit("m2") == "ended"
    assert play.why("m2") == TOO_FREQUENT
    assert play.status("m2").allowed_at is not None


# --- the cases themselves -------------------------------------------------------------------------


SUPPRESSES = test_nothing_is_sent_to_a_suppressed_number
SHIELDED = test_a_report_suppresses_its_number
HELD_BACK = test_the_gateways_limit_lets_others_wait
LIMITED = test_a_second_otp_within_the_minute_fails_and_says_when_it_would_be_allowed


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(Numbers, "suppression", nothing), SUPPRESSES),
    (OfOutbox(Numbers, "held_until", lambda *_: 0), HELD_BACK),
    (OfOutbox(Numbers, "allowed_at", lambda *_: 0), LIMITED),
    (OfOutbox(reports, "_shield_number", nothing), SHIELDED),
    (
        OfAct("admit", "suppressed, number_held_by_gateway,", "number_held_by_gateway,"),
        SUPPRESSES,
    ),
    (OfAct("admit", "number_held_by_gateway,", ""), HELD_BACK),
    (OfAct("admit", "number_too_frequent,", ""), LIMITED),
    (OfAct("shared/reports", "(r.suppress_ms or 0) > 0", "false"), SHIELDED),
)
