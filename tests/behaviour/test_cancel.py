"""Cancelling: what it answers, and that no further attempt begins whatever it answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import smsq
from harness.broken import OfAct, OfOutbox, broken_rules
from harness.scene import DELIVRD, stat
from harness.sides import DAY, Play
from smsq.memory import endings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Report

NO_ROUTE = stat("MA:0003", "transient", 600)
NO_BALANCE = stat("MA:0015", "transient", 60, pause="account")
IN_DOUBT = stat("EXPIRED", "transient", 600, maybe_sent=True)


def cancelled(name: str = "m1") -> tuple[str, str, str | None]:
    found = smsq.cancel(name)
    assert found is not None
    return found.answer, found.state, found.reason


def waits(_: Play) -> None: ...


def waits_for_another_attempt(play: Play) -> None:
    play.call(Outcome.NOT_SENT)


@pytest.mark.parametrize("before", [waits, waits_for_another_attempt])
def test_what_certainly_was_not_sent_is_cancelled(
    play: Play, before: Callable[[Play], None]
) -> None:
    play.enter(key="k", notify="shop.done")
    before(play)
    assert cancelled() == ("cancelled", "cancelled", None)
    assert cancelled() == ("cancelled", "cancelled", None)
    assert (play.status().final, play.status().certainly_not_sent) == (True, True)
    assert play.admit() == "copy"
    assert [one["state"] for one in play.told()] == ["cancelled"]
    assert play.enter("m2", key="k").duplicate_of is None


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_what_is_in_doubt_fails_and_keeps_its_key(play: Play, policy: str) -> None:
    play.enter(key="k", on_ambiguous=policy)
    play.call(Outcome.MAYBE_SENT)
    assert cancelled() == ("too_late", "failed", "local:cancelled")
    assert play.enter("m2", key="k").duplicate_of == "m1"
    assert play.record("m1", Outcome.ACCEPTED, attempt=1) == "failed"
    assert play.report(DELIVRD) == "delivered"


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
    play.enter(on_ambiguous="hold")
    play.go()
    assert cancelled() == ("under_way", "sending", None)
    play.record("m1", outcome)
    assert play.why() == (state, reason)
    play.advance(3600)
    assert play.admit() == "copy"


def test_an_attempt_whose_worker_died_is_the_last_too(play: Play) -> None:
    play.enter()
    play.go()
    cancelled()
    play.advance(61)
    assert play.why() == ("failed", "local:cancelled")


@pytest.mark.parametrize("report", [NO_ROUTE, NO_BALANCE, IN_DOUBT], ids=lambda report: report.stat)
def test_what_was_accepted_is_not_resent(play: Play, report: Report) -> None:
    play.enter(on_ambiguous="hold")
    play.accept()
    assert cancelled() == ("too_late", "accepted", None)
    play.report(report)
    assert play.why() == ("failed", f"report:{report.stat}")


def test_what_has_ended_stays_as_it_is(play: Play) -> None:
    play.enter(ttl_s=60)
    play.enter("m2")
    play.accept("m2")
    play.report(DELIVRD, "m2")
    play.advance(DAY)
    play.admit()
    assert cancelled() == ("too_late", "expired", None)
    assert cancelled("m2") == ("too_late", "delivered", None)


def test_nobodys_message_is_not_cancelled(play: Play) -> None:
    assert smsq.cancel("m1") is None


# --- the cases themselves -------------------------------------------------------------------------


LAST = test_an_attempt_whose_worker_died_is_the_last_too


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(endings, "is_cancelled", lambda *_: False), LAST),
    (OfAct("shared/ends", "m.stop == 'cancelled'", "false"), LAST),
)
