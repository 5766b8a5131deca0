"""What a backend enters: rules, ids, keys, times, many at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import smsq
from harness.broken import OfAct, OfEntry, OfOutbox, broken_rules
from harness.scene import OTHER_PHONE, PHONE, TEMPLATE, mid_of, stat
from harness.sides import DAY, HOUR, Play
from smsq import InvalidMessage, KeyConflict
from smsq.contract import FILE_SPACE, parse, relay_space
from smsq.memory import entry
from smsq.memory.book import Book
from smsq.memory.message import Stored
from smsq_worker.domain.states import Outcome

KEY = "login-7781"
BLACKLISTED = stat("MA:0001", "permanent")


def in_s(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_message_is_queued(play: Play) -> None:
    result = play.enter(lane="otp", reference="order 5")
    status = play.status()
    assert (result.id, result.duplicate_of) == ("m1", None)
    assert (status.state, status.lane, status.final) == ("queued", "otp", False)
    assert (status.template, status.phone) == (TEMPLATE, "138****8000")
    assert (status.reference, status.reason, status.attempts) == ("order 5", None, ())
    assert abs(status.enqueued_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert not status.certainly_not_sent
    assert play.told() == []


@pytest.mark.parametrize(
    "given",
    [
        {"phone": "12345"},
        {"template": ""},
        {"lane": "opt"},
        {"ttl_s": 0},
        {"send_at": in_s(400 * DAY)},
        {"on_ambiguous": "perhaps"},
        {"key": ""},
        {"notify": "a\nb"},
        {"colour": "red"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_broken_rule_enters_nothing(play: Play, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match=next(iter(given))):
        play.enter(**given)
    assert smsq.status("m1") is None


def test_of_what_nobody_entered_nothing_is_known(play: Play) -> None:
    assert smsq.status("m1") is smsq.status("") is smsq.status("no\nid") is None
    assert play.admit() == "unknown"
    assert play.decide("m1", "drop") == "unknown"


# --- ids ----------------------------------------------------------------------------------------


def test_the_same_id_again_changes_nothing(play: Play) -> None:
    play.enter(reference="first")
    before = play.status()
    assert play.enter(reference="second", lane="otp").duplicate_of is None
    assert play.status() == before


def test_an_id_does_not_stand_for_two_messages(play: Play) -> None:
    play.enter()
    before = play.status()
    for other in ({"phone": OTHER_PHONE}, {"template": "SMS_2"}):
        with pytest.raises(KeyConflict, match="task_id is that of message m1") as raised:
            play.enter(**other)
        assert raised.value.holder == "m1"
    assert play.status() == before


def test_nor_does_that_of_a_message_that_has_ended(play: Play) -> None:
    play.enter()
    play.call(Outcome.REFUSED)
    with pytest.raises(KeyConflict):
        play.enter(template="SMS_2")
    assert play.enter().duplicate_of is None
    assert play.state() == "failed"


# --- keys ---------------------------------------------------------------------------------------


def test_a_second_message_with_a_key_is_a_duplicate_of_the_first(play: Play) -> None:
    play.enter(key=KEY)
    assert play.enter("m2", key=KEY, lane="otp").duplicate_of == "m1"
    assert play.why("m2") == ("duplicate", "duplicate:m1")
    assert play.admit("m2") == "copy"
    assert play.enter("m2", key=KEY).duplicate_of == "m1"
    assert play.enter(key=KEY).duplicate_of is None
    status = play.status("m2")
    assert (status.final, status.certainly_not_sent) == (True, False)


@pytest.mark.parametrize("other", [{"phone": OTHER_PHONE}, {"template": "SMS_2"}])
def test_a_key_does_not_stand_for_two_messages(play: Play, other: dict[str, str]) -> None:
    play.enter(key=KEY)
    with pytest.raises(KeyConflict, match="key is that of message m1") as raised:
        play.enter("m2", key=KEY, **other)
    assert raised.value.holder == "m1"
    assert KEY not in str(raised.value)
    assert smsq.status("m2") is None


def test_a_key_holds_for_a_day(play: Play) -> None:
    play.enter(key=KEY, ttl_s=3 * DAY)
    play.advance(DAY - 60)
    assert play.enter("m2", key=KEY).duplicate_of == "m1"
    play.advance(61)
    assert play.enter("m3", key=KEY).duplicate_of is None


def test_keys_of_others_are_others(play: Play) -> None:
    def entered(space: str) -> list[str]:
        parsed = parse((PHONE, TEMPLATE), {"key": KEY})
        message = type(parsed)(
            **{name: getattr(parsed, name) for name in parsed.__slots__} | {"key_space": space}
        )
        return [one.duplicate_of for one in smsq.send_many([message]).duplicates]

    spaces = ("", FILE_SPACE, relay_space("shop"), relay_space(""))
    assert [entered(space) for space in spaces] == [[]] * 4
    assert [len(entered(space)) for space in spaces] == [1] * 4


def expires(play: Play) -> None:
    play.advance(DAY)


def is_refused(play: Play) -> None:
    play.call(Outcome.REFUSED)


def is_refused_at_last(play: Play) -> None:
    for outcome in (Outcome.NOT_SENT, Outcome.NOT_SENT, Outcome.REFUSED):
        play.call(outcome)
        play.advance(60)


def expires_after_an_outage(play: Play) -> None:
    for _ in range(12):
        play.call(Outcome.NOT_SENT)
        play.advance(60)
    assert [one.n for one in play.status().attempts] == [*range(3, 13)]
    play.advance(DAY)


def is_suppressed(play: Play) -> None:
    play.suppress("by hand", DAY)
    assert play.admit() == "ended"


def was_in_doubt_until_the_answer_came(play: Play) -> None:
    play.go()
    play.advance(61)
    play.record("m1", Outcome.NOT_SENT, attempt=1)
    play.advance(DAY)


@pytest.mark.parametrize(
    "ends",
    [
        expires,
        is_refused,
        is_refused_at_last,
        expires_after_an_outage,
        is_suppressed,
        was_in_doubt_until_the_answer_came,
    ],
)
def test_what_certainly_was_not_sent_frees_its_key(
    play: Play, ends: Callable[[Play], None]
) -> None:
    # So that only its end can have freed it.
    play.enter("before", key=KEY)
    play.call(Outcome.REFUSED, "before")
    play.enter(key=KEY, ttl_s=DAY - HOUR)
    ends(play)
    assert play.state() in {"failed", "expired"}
    assert play.status().certainly_not_sent
    assert play.enter("m2", key=KEY).duplicate_of is None


def is_delivered(play: Play) -> None:
    play.accept()
    play.report(stat("DELIVRD", "delivered"))


def is_reported_as_failed(play: Play) -> None:
    play.accept()
    play.report(BLACKLISTED)


def is_refused_after_a_doubt(play: Play) -> None:
    play.call(Outcome.MAYBE_SENT)
    play.advance(60)
    play.call(Outcome.REFUSED)


def expires_in_doubt(play: Play) -> None:
    play.call(Outcome.MAYBE_SENT)
    play.advance(HOUR)


def is_dropped(play: Play) -> None:
    play.call(Outcome.MAYBE_SENT)
    play.decide("m1", "drop")


@pytest.mark.parametrize(
    ("ends", "options"),
    [
        (is_delivered, {}),
        (is_reported_as_failed, {}),
        (is_refused_after_a_doubt, {}),
        (expires_in_doubt, {"ttl_s": 600}),
        (is_dropped, {"on_ambiguous": "hold"}),
    ],
)
def test_what_may_have_been_sent_keeps_its_key(
    play: Play, ends: Callable[[Play], None], options: dict[str, Any]
) -> None:
    play.enter(key=KEY, **options)
    ends(play)
    assert play.status().final
    assert not play.status().certainly_not_sent
    assert play.enter("m2", key=KEY).duplicate_of == "m1"


# --- times --------------------------------------------------------------------------------------


def test_a_message_for_later_waits_and_its_ttl_begins_then(play: Play) -> None:
    play.enter(send_at=in_s(HOUR), ttl_s=600)
    assert play.state() == "deferred"
    assert play.admit() == "copy"
    play.advance(HOUR + 1)
    assert play.state() == "queued"
    assert play.go() == 1


def test_a_time_that_is_over_is_now(play: Play) -> None:
    play.enter(send_at=in_s(-60), ttl_s=30)
    assert play.state() == "queued"
    assert play.go() == 1


def test_a_message_whose_ttl_is_over_expires(play: Play) -> None:
    play.enter(ttl_s=60)
    play.advance(61)
    assert play.admit() in {"copy", "expired"}
    assert play.why() == ("expired", None)
    assert play.status().certainly_not_sent


@pytest.mark.parametrize(("lane", "ttl_s"), [("otp", 300), ("notice", DAY), ("bulk", DAY)])
def test_each_lane_has_a_ttl_of_its_own(play: Play, lane: str, ttl_s: float) -> None:
    play.enter(lane=lane)
    play.advance(ttl_s - 30)
    assert play.state() == "queued"
    play.advance(31)
    play.admit()
    assert play.state() == "expired"


def test_what_has_ended_is_forgotten_after_the_retention(play: Play) -> None:
    play.enter()
    is_delivered(play)
    play.advance(7 * DAY - 60)
    assert play.state() == "delivered"
    play.advance(61)
    assert smsq.status("m1") is None
    assert play.report_on(mid_of("m1", 1), BLACKLISTED) == "parked"
    assert play.enter(phone=OTHER_PHONE).duplicate_of is None


# --- many ---------------------------------------------------------------------------------------


def rows(*keys: str, template: str = TEMPLATE) -> list[dict[str, str]]:
    return [{"phone": PHONE, "template": template, "key": key} for key in keys]


def test_many_are_entered_and_the_duplicates_among_them_told(play: Play) -> None:
    ids: list[str] = []
    sent = smsq.send_many(rows("a", "b", "a", "c"), batch_size=3, on_batch=ids.extend)
    assert (sent, len(ids)) == (4, 4)
    assert [(one.index, one.id, one.duplicate_of) for one in sent.duplicates] == [
        (2, ids[2], ids[0])
    ]
    assert [play.why(one) for one in ids[:3]] == [
        ("queued", None), ("queued", None), ("duplicate", f"duplicate:{ids[0]}")
    ]  # fmt: skip
    assert play.status(ids[0]).lane == "bulk"


def test_many_stop_at_a_conflict_and_those_before_it_are_in(play: Play) -> None:
    ids: list[str] = []
    given = [*rows("a", "b"), *rows("a", template="SMS_2"), *rows("c")]
    with pytest.raises(KeyConflict, match="row 2: key is that of message") as raised:
        smsq.send_many(given, on_batch=ids.extend)
    assert (raised.value.index, raised.value.enqueued, len(ids)) == (2, 2, 2)
    assert smsq.send_many(rows("c")).duplicates == ()


def test_many_go_on_after_a_conflict_that_is_skipped(play: Play) -> None:
    given = [*rows("a"), *rows("a", template="SMS_2"), *rows("c"), {"phone": "1"}]
    sent = smsq.send_many(given, on_invalid="skip")
    assert sent == 2
    assert {(one.index, type(one)) for one in sent.invalid} == {
        (1, KeyConflict), (3, InvalidMessage)
    }  # fmt: skip


# --- the cases themselves -------------------------------------------------------------------------


def frees_its_key(play: Play) -> None:
    test_what_certainly_was_not_sent_frees_its_key(play, is_refused)


def keeps_its_key(play: Play) -> None:
    test_what_may_have_been_sent_keeps_its_key(play, is_delivered, {})


def conflicts(play: Play) -> None:
    test_a_key_does_not_stand_for_two_messages(play, {"template": "SMS_2"})


A_DUPLICATE = test_a_second_message_with_a_key_is_a_duplicate_of_the_first
ANOTHER = test_an_id_does_not_stand_for_two_messages
LATER = test_a_message_for_later_waits_and_its_ttl_begins_then


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(Book, "holder_of", lambda *_: None), A_DUPLICATE),
    (OfOutbox(entry, "_is_another", lambda *_: False), ANOTHER),
    (OfOutbox(Stored, "certainly_not_sent", True), keeps_its_key),
    (OfOutbox(Stored, "certainly_not_sent", False), frees_its_key),
    (OfEntry("if holder then", "if false then"), A_DUPLICATE),
    (OfEntry("state and is_another", "false and is_another"), ANOTHER),
    (OfEntry("taken_for ~= fingerprint", "false"), conflicts),
    (OfEntry("ARGV[2], ARGV[3]", "ARGV[2], 1"), test_a_key_holds_for_a_day),
    (OfEntry("math.max(now, send_at)", "now"), LATER),
    (OfAct("shared/ends", "certainly_not_sent(m) and", "false and"), frees_its_key),
    (OfAct("shared/ends", "certainly_not_sent(m) and", "true and"), keeps_its_key),
)
