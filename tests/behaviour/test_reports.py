"""Delivery reports: early, late, doubled, out of order; and what `notify` tasks get of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from harness.broken import OfAct, OfOutbox, broken_rules, nothing
from harness.scene import DELIVRD, mid_of, stat
from harness.sides import DAY, Play
from smsq.memory import endings, sending
from smsq.memory.message import Stored
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Report

BLACKLISTED = stat("MA:0001", "permanent")
NO_ROUTE = stat("MA:0003", "transient", 600)
NO_BALANCE = stat("MA:0015", "transient", 60, pause="account")
IN_DOUBT = stat("EXPIRED", "transient", 7200, maybe_sent=True)
PENDING = stat("ACCEPTD", "pending")
UNHEARD_OF = stat("XX:0001", "unknown", raw="xx:1")


@pytest.mark.parametrize(
    ("report", "state", "reason"),
    [
        (DELIVRD, "delivered", None),
        (BLACKLISTED, "failed", "report:MA:0001"),
        (NO_ROUTE, "deferred", None),
        (NO_BALANCE, "deferred", None),
        (IN_DOUBT, "deferred", None),
        (PENDING, "accepted", None),
        (UNHEARD_OF, "accepted", None),
    ],
    ids=lambda value: value.stat if isinstance(value, Report) else "",
)
def test_a_report_moves_what_was_accepted(
    play: Play, report: Report, state: str, reason: str | None
) -> None:
    play.enter()
    play.accept()
    assert play.report(report) == state
    status = play.status()
    assert (status.state, status.reason, status.stat) == (state, reason, report.stat)
    assert status.attempts[0].stat == report.stat
    assert (status.finished_at is not None) == status.final
    assert not status.certainly_not_sent


def test_a_report_on_an_unknown_mid_waits(play: Play) -> None:
    assert play.report_on("nobody's", DELIVRD) == "parked"


def test_a_report_that_comes_before_the_answer_is_applied_with_it(play: Play) -> None:
    play.enter()
    play.go()
    assert play.report_on(mid_of("m1", 1), DELIVRD) == "parked"
    assert play.record("m1", Outcome.ACCEPTED) == "delivered"


@pytest.mark.parametrize("report", [BLACKLISTED, NO_ROUTE, PENDING])
def test_delivered_is_the_last_word(play: Play, report: Report) -> None:
    play.enter()
    play.accept()
    play.report(DELIVRD)
    before = play.status()
    assert play.report(report, attempt=1) == "delivered"
    after = play.status()
    assert (after.state, after.stat) == (before.state, "DELIVRD")
    assert after.attempts[0].stat == report.stat


def test_delivered_corrects_a_failure(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(BLACKLISTED)
    assert play.report(DELIVRD) == "delivered"
    assert play.status().reason is None


def test_a_failure_does_not_correct_another(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(BLACKLISTED)
    assert play.report(stat("MA:0002", "permanent")) == "failed"
    assert play.why() == ("failed", "report:MA:0001")


@pytest.mark.parametrize("report", [NO_ROUTE, IN_DOUBT], ids=lambda report: report.stat)
def test_a_transient_report_is_resent_within_the_budget(play: Play, report: Report) -> None:
    play.enter()
    for _ in range(2):
        play.accept()
        assert play.report(report) == "deferred"
        play.advance(report.wait_ms / 1000 + 1)
    play.accept()
    assert play.report(report) == "failed"
    assert play.why() == ("failed", f"report:{report.stat}")


@pytest.mark.parametrize("denial", [NO_ROUTE, NO_BALANCE], ids=lambda report: report.stat)
@pytest.mark.parametrize("is_due", [False, True], ids=["deferred", "queued"])
def test_one_that_is_not_to_be_sent_after_a_doubt_is_held_where_a_report_leaves_one_later(
    play: Play, denial: Report, is_due: bool
) -> None:
    play.enter(on_ambiguous="hold")
    play.accept()
    assert play.report(denial) == "deferred"
    if is_due:
        play.advance(denial.wait_ms / 1000 + 1)
    for _ in range(2):
        assert play.report(IN_DOUBT) == "held"
    assert play.report(DELIVRD) == "delivered"


def test_what_is_the_accounts_fault_uses_nothing_up(play: Play) -> None:
    play.enter()
    for _ in range(4):
        play.accept()
        assert play.report(NO_BALANCE) == "deferred"
        play.advance(61)
    play.accept()
    assert play.report(DELIVRD) == "delivered"


def test_a_doubled_transient_report_uses_the_budget_once(play: Play) -> None:
    play.enter()
    for _ in range(2):
        play.accept()
        n = len(play.status().attempts)
        for _ in range(3):
            assert play.report(NO_ROUTE, attempt=n) == "deferred"
        play.advance(601)


def test_a_transient_report_in_doubt_is_held_where_the_policy_says_so(play: Play) -> None:
    play.enter(on_ambiguous="hold")
    play.accept()
    assert play.report(IN_DOUBT) == "held"


def test_a_transient_report_that_leaves_no_time_fails(play: Play) -> None:
    play.enter(ttl_s=500)
    play.accept()
    assert play.report(NO_ROUTE) == "failed"
    assert play.why() == ("failed", "report:MA:0003")


def test_a_late_report_takes_the_resend_back(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(NO_ROUTE)
    assert play.report(DELIVRD) == "delivered"
    play.advance(601)
    assert play.admit() == "copy"


def test_a_failure_of_an_older_attempt_does_not_stop_the_newer(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(NO_ROUTE)
    play.advance(601)
    play.accept()
    assert play.report(BLACKLISTED, attempt=1) == "accepted"
    assert play.report(DELIVRD, attempt=1) == "delivered"


@pytest.mark.parametrize(
    ("report", "state"), [(DELIVRD, "delivered"), (BLACKLISTED, "failed"), (NO_ROUTE, "failed")]
)
def test_without_a_report_a_message_is_unreported_until_one_comes(
    play: Play, report: Report, state: str
) -> None:
    play.enter()
    play.accept()
    play.advance(3 * DAY + 1)
    assert play.state() == "unreported"
    assert not play.status().certainly_not_sent
    assert play.report(report) == state


# --- what is told -------------------------------------------------------------------------------

NOTIFY = "shop.tasks.sms_done"
TIMES = ("enqueued_at", "accepted_at", "finished_at", "allowed_at")


def known(outcome: Any) -> dict[str, Any]:
    """What is told, without the times, which are ISO 8601 in UTC."""
    for name in TIMES:
        assert (
            outcome[name] is None or datetime.fromisoformat(outcome[name]).utcoffset() is not None
        )
    return {name: value for name, value in outcome.items() if name not in TIMES}


def test_a_task_is_told_the_end(play: Play) -> None:
    play.enter(notify=NOTIFY, reference="order 5")
    play.accept()
    assert play.told() == []
    play.report(DELIVRD)
    (outcome,) = play.told()
    assert known(outcome) == {
        "id": "m1", "state": "delivered", "lane": "notice", "reason": None, "stat": "DELIVRD",
        "raw_stat": "DELIVRD", "detail": None, "template": "SMS_1001", "phone": "138****8000",
        "reference": "order 5", "mid": "MID-m1-1",
    }  # fmt: skip
    assert list(outcome)[-4:] == [*TIMES]
    assert [outcome[name] is None for name in TIMES] == [False, False, False, True]
    assert play.told() == []


def test_a_task_is_told_better_news_too(play: Play) -> None:
    play.enter(notify=NOTIFY)
    play.accept()
    play.report(BLACKLISTED)
    assert [(one["state"], one["reason"]) for one in play.told()] == [("failed", "report:MA:0001")]
    play.report(DELIVRD)
    play.report(DELIVRD)
    assert [(one["state"], one["reason"]) for one in play.told()] == [("delivered", None)]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome.REFUSED, ("failed", "gateway:400", None)),
        (Outcome.NOT_SENT, ("expired", None, None)),
        (Outcome.MAYBE_SENT, ("failed", "local:resends", None)),
    ],
)
def test_a_task_is_told_what_never_got_a_report(
    play: Play, outcome: Outcome, told: tuple[str, str | None, str | None]
) -> None:
    play.enter(notify=NOTIFY, ttl_s=90)
    play.call(outcome)
    play.advance(90)
    play.admit()
    assert [(one["state"], one["reason"], one["mid"]) for one in play.told()] == [told]


def test_a_task_is_told_of_a_duplicate(play: Play) -> None:
    play.enter(key="a")
    play.enter("m2", key="a", notify=NOTIFY)
    (outcome,) = play.told()
    assert (outcome["id"], outcome["state"], outcome["reason"]) == (
        "m2", "duplicate", "duplicate:m1"
    )  # fmt: skip


def test_nobody_is_told_who_did_not_ask(play: Play) -> None:
    play.enter()
    play.accept()
    play.report(DELIVRD)
    assert play.told() == []


# --- the cases themselves -------------------------------------------------------------------------


EARLY = test_a_report_that_comes_before_the_answer_is_applied_with_it
OLDER = test_a_failure_of_an_older_attempt_does_not_stop_the_newer
READ_EARLY = "redis.call('LRANGE', early, 0, -1)"


test_a_broken_rule_makes_it_red = broken_rules(
    (OfOutbox(sending, "early_reports", lambda *_: []), EARLY),
    (OfOutbox(Stored, "is_last_sent", lambda *_: True), OLDER),
    (OfOutbox(endings, "announce", nothing), test_a_task_is_told_the_end),
    (OfAct("record", READ_EARLY, "{}"), EARLY),
    (OfAct("shared/reports", "not certainly_not_sent(m, n + 1)", "false"), OLDER),
    (
        OfAct("shared/announce", "if f.notify then", "if false then"),
        test_a_task_is_told_the_end,
    ),
)


@pytest.mark.parametrize(
    ("second", "report"),
    [
        (None, DELIVRD),  # it is under way
        (Outcome.NOT_SENT, DELIVRD),
        (Outcome.MAYBE_SENT, DELIVRD),
        (Outcome.ACCEPTED, DELIVRD),
        (Outcome.NOT_SENT, BLACKLISTED),
    ],
)
def test_a_task_is_told_the_mid_that_was_reported_on(
    play: Play, second: Outcome | None, report: Report
) -> None:
    play.enter(notify=NOTIFY)
    play.accept()
    play.report(NO_ROUTE)
    play.advance(601)
    play.go()
    if second:
        play.record("m1", second)
    play.report(report, attempt=1)
    assert [one["mid"] for one in play.told()] == [mid_of("m1", 1)]


def test_a_task_is_told_the_mid_of_which_no_report_came(play: Play) -> None:
    play.enter(notify=NOTIFY)
    play.call(Outcome.MAYBE_SENT)
    play.advance(61)
    play.call(Outcome.NOT_SENT)
    play.record("m1", Outcome.ACCEPTED, attempt=1)
    play.advance(3 * DAY)
    assert [(one["state"], one["mid"]) for one in play.told()] == [("unreported", mid_of("m1", 1))]
