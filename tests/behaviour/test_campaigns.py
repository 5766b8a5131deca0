"""Campaigns: what is shown and told of their messages, and that a cancelled one is for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import smsq
from harness.broken import OfAct, OfEntry, OfOutbox, broken_rules
from harness.scene import DELIVRD, OTHER_PHONE, PHONE, TEMPLATE, stat
from harness.sides import DAY, HOUR, Play
from smsq import CampaignCancelled, InvalidMessage
from smsq.memory import campaigns, endings, entry, sending
from smsq_worker.domain.states import Outcome

CANCELLED = ("cancelled", None)
MAYBE_SENT = ("failed", "local:cancelled")


def enter(play: Play, *names: str, campaign: str = "spring", **options: object) -> None:
    for name in names or ("m1",):
        play.enter(name, campaign=campaign, **options)


def waits(_: Play) -> None: ...


def waits_again(play: Play) -> None:
    play.call(Outcome.NOT_SENT)


def waits_for_its_campaign(play: Play) -> None:
    play.campaign("pause", "spring")
    play.admit()


def is_in_doubt(play: Play) -> None:
    play.call(Outcome.MAYBE_SENT)


@pytest.mark.parametrize("policy", ["resend", "hold"])
@pytest.mark.parametrize(
    ("before", "end"),
    [
        (waits, CANCELLED),
        (waits_again, CANCELLED),
        (waits_for_its_campaign, CANCELLED),
        (is_in_doubt, MAYBE_SENT),
    ],
)
def test_what_waits_ends_with_its_campaign_at_once(
    play: Play, before: Callable[[Play], None], end: tuple[str, str | None], policy: str
) -> None:
    enter(play, notify="shop.done", on_ambiguous=policy)
    before(play)
    play.campaign("cancel", "spring")
    shown = play.status()
    assert (shown.state, shown.reason, shown.campaign) == (*end, "spring")
    assert (shown.final, shown.certainly_not_sent) == (True, end == CANCELLED)
    assert shown.finished_at
    assert play.told() == []
    play.advance(0)
    assert play.why() == end
    assert [one["state"] for one in play.told()] == [end[0]]
    assert play.admit() == "copy"


def test_what_comes_to_its_turn_before_the_sweep_ends_then(play: Play) -> None:
    enter(play)
    play.campaign("cancel", "spring")
    assert play.admit() == "ended"
    assert play.why() == CANCELLED


def test_what_was_cancelled_does_not_expire_before_the_sweep(play: Play) -> None:
    enter(play, ttl_s=60, notify="shop.done")
    play.campaign("cancel", "spring")
    play.advance(HOUR)
    assert play.why() == CANCELLED
    assert [one["state"] for one in play.told()] == ["cancelled"]


def test_nor_at_its_turn(play: Play) -> None:
    enter(play, ttl_s=60)
    play.campaign("cancel", "spring")
    play.sleep(61)
    play.admit()
    assert play.why() == CANCELLED


@pytest.mark.parametrize("decision", ["resend", "drop"])
def test_nobody_decides_on_what_was_held_in_a_cancelled_one(play: Play, decision: str) -> None:
    enter(play, on_ambiguous="hold")
    is_in_doubt(play)
    play.campaign("cancel", "spring")
    assert play.decide("m1", decision) == "not held"
    assert play.why() == MAYBE_SENT


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome.ACCEPTED, "accepted", None),
        (Outcome.REFUSED, "failed", "gateway:400"),
        (Outcome.NOT_SENT, "cancelled", None),
        (Outcome.MAYBE_SENT, "failed", "local:cancelled"),
    ],
)
def test_an_attempt_under_way_is_the_last(
    play: Play, outcome: Outcome, state: str, reason: str | None
) -> None:
    enter(play, on_ambiguous="hold")
    play.go()
    play.campaign("cancel", "spring")
    assert play.state() == "sending"
    play.record("m1", outcome)
    assert play.why() == (state, reason)
    play.advance(HOUR)
    assert play.admit() == "copy"


def test_what_was_accepted_goes_on_to_its_report_and_is_not_resent(play: Play) -> None:
    enter(play, "m1", "m2")
    play.accept("m1")
    play.accept("m2")
    play.campaign("cancel", "spring")
    assert play.report(DELIVRD, "m1") == "delivered"
    play.report(stat("MA:0003", "transient", 600), "m2")
    assert play.why("m2") == ("failed", "report:MA:0003")


def test_nothing_joins_a_cancelled_one(play: Play) -> None:
    enter(play)
    play.campaign("cancel", "spring")
    ids: list[str] = []
    rows = [{"phone": PHONE, "template": TEMPLATE}, {"phone": PHONE, "template": TEMPLATE}]
    rows[1]["campaign"] = "spring"
    with pytest.raises(CampaignCancelled, match="spring was cancelled") as raised:
        smsq.send_many(rows, on_batch=ids.extend)
    assert (raised.value.campaign, raised.value.enqueued, ids) == ("spring", 0, [])
    with pytest.raises(CampaignCancelled):
        enter(play)  # Its own message, once more.
    assert play.campaign("resume", "spring") == "cancelled"
    with pytest.raises(CampaignCancelled):
        enter(play, "m2")
    assert smsq.status("m2") is None
    enter(play, "m2", campaign="autumn")


@pytest.mark.parametrize("before", [waits, waits_again, waits_for_its_campaign])
def test_the_right_file_takes_the_keys_before_the_sweep(
    play: Play, before: Callable[[Play], None]
) -> None:
    enter(play, key="k", notify="shop.done")
    before(play)
    play.campaign("cancel", "spring")
    right = play.enter("m2", key="k", campaign="autumn", template="SMS_2", phone=OTHER_PHONE)
    assert right.duplicate_of is None
    assert [play.why(name) for name in ("m1", "m2")] == [CANCELLED, ("queued", None)]
    assert [one["id"] for one in play.told()] == ["m1"]
    assert play.enter("m3", key="k", template="SMS_2", phone=OTHER_PHONE).duplicate_of == "m2"


def test_what_may_have_been_sent_keeps_its_key(play: Play) -> None:
    enter(play, key="k")
    is_in_doubt(play)
    play.campaign("cancel", "spring")
    assert play.enter("m2", key="k", campaign="autumn").duplicate_of == "m1"
    assert play.why() == MAYBE_SENT


def test_a_paused_one_waits_and_goes_on_with_all_that_waited(play: Play) -> None:
    enter(play, "m1", "m2")
    enter(play, "m3", campaign="autumn")
    assert play.campaign("pause", "spring") == ""
    assert [play.admit(name) for name in ("m1", "m3")] == ["deferred", 1]
    play.advance(HOUR)
    assert [play.state(name) for name in ("m1", "m2")] == ["deferred", "queued"]
    assert play.campaign("resume", "spring") == "paused"
    assert play.campaign("resume", "spring") == ""
    play.advance(0)
    assert [play.admit(name) for name in ("m1", "m2")] == [1, 1]


def test_the_ttl_runs_on_in_a_paused_one(play: Play) -> None:
    enter(play, ttl_s=60)
    play.campaign("pause", "spring")
    play.admit()
    play.advance(61)
    assert play.why() == ("expired", None)


def test_a_single_cancel_is_as_good_before_the_sweep(play: Play) -> None:
    enter(play)
    play.campaign("cancel", "spring")
    found = smsq.cancel("m1")
    assert found
    assert (found.answer, found.state) == ("cancelled", "cancelled")


def test_one_is_forgotten_after_its_last_message(play: Play) -> None:
    assert play.campaign("pause", "spring") == "unknown"
    enter(play)
    play.campaign("cancel", "spring")
    play.advance(60)
    play.advance(7 * DAY - 120)
    assert play.campaign("cancel", "spring") == "cancelled"
    play.advance(180)
    assert play.campaign("cancel", "spring") == "unknown"
    enter(play, "m2")


def test_a_name_that_is_none_is_refused(play: Play) -> None:
    with pytest.raises(InvalidMessage, match="campaign"):
        enter(play, campaign=PHONE)


# --- the cases themselves -------------------------------------------------------------------------


def is_shown_at_once(play: Play) -> None:
    test_what_waits_ends_with_its_campaign_at_once(play, waits, CANCELLED, "resend")


def takes_the_key(play: Play) -> None:
    test_the_right_file_takes_the_keys_before_the_sweep(play, waits)


def held_is_over(play: Play) -> None:
    test_nobody_decides_on_what_was_held_in_a_cancelled_one(play, "resend")


LATE = test_nor_at_its_turn
ACCEPTED = test_what_was_accepted_goes_on_to_its_report_and_is_not_resent
BARRED = test_nothing_joins_a_cancelled_one
KEEPS = test_what_may_have_been_sent_keeps_its_key
PAUSED = test_a_paused_one_waits_and_goes_on_with_all_that_waited
TURN = test_what_comes_to_its_turn_before_the_sweep_ends_then


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(campaigns, "join", lambda *_: ""), BARRED),
    (OfOutbox(campaigns, "shown", lambda _, m: m.fields), is_shown_at_once),
    (OfOutbox(campaigns, "look_after", lambda _: None), PAUSED),
    (OfOutbox(entry, "end_holder", lambda *_: False), takes_the_key),
    (OfOutbox(endings, "is_cancelled", lambda *_: False), LATE),
    (OfOutbox(endings, "is_cancelled", lambda *_: False), ACCEPTED),
    (OfOutbox(sending, "is_cancelled", lambda *_: False), TURN),
    (OfOutbox(endings, "is_cancelled", lambda *_: False), held_is_over),
    (OfEntry("f[5] == 'cancelled'", "false"), BARRED),
    (OfEntry("holder and not end_holder(holder)", "holder"), takes_the_key),
    (OfEntry("or not certainly_not_sent(f)", ""), KEEPS),
    (OfAct("shared/ends", "if is_cancelled(m) then return cancel(m) end", ""), LATE),
    (OfAct("shared/ends", "or m.campaign and", "or false and"), ACCEPTED),
    (OfAct("decide", "if is_cancelled(m)", "if false"), held_is_over),
    (OfAct("shared/guards", "stop == 'paused'", "false"), PAUSED),
    (OfAct("shared/guards", "stop == 'cancelled'", "false"), TURN),
)
