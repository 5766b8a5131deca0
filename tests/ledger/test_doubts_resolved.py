"""A call in doubt of which more is learnt later: what its lease has cost is given back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from harness.scene import (
    BAD_TEMPLATE,
    DELIVRD,
    NO_BALANCE,
    PHONE_IS_OFF,
    TEMPLATE,
    Scene,
    mid_of,
    stat,
)
from harness.scopes import template_scope
from smsq import keys
from smsq.contract import State
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Report

MAYBE_TRANSIENT = stat("MO:0254", "transient", 60, maybe_sent=True)
PERMANENT = stat("MA:0001", "permanent")
NO_ROUTE = stat("MA:0003", "transient", 600)
OF_TEMPLATE = template_scope(TEMPLATE)
LATE = "its lease was over before the request was written"


def lease_runs_out(scene: Scene, times: int = 1) -> None:
    """Let calls be lost, the last one's resend waiting to be woken up."""
    for n in range(times):
        if n:
            scene.run_out()
        scene.go()
        scene.run_out()


def learn(scene: Scene, n: int, outcome: Outcome, **more: object) -> State | None:
    mid = mid_of("m1", n) if outcome is Outcome.ACCEPTED else ""
    told = {"detail": LATE if outcome is Outcome.NOT_SENT else "gateway:400 no", "wait_s": 60.0}
    return scene.ledger.record("m1", n, outcome, mid=mid, **(told | more))


def resolved(scene: Scene) -> dict[str, int]:
    counters = scene.ledger.counters().items()
    return {k.partition(":")[2]: n for k, n in counters if k.startswith("doubts_resolved:")}


def possible_duplicates(scene: Scene) -> int:
    return scene.ledger.counters().get("possible_duplicates", 0)


def test_a_lease_that_ran_out_gives_its_resend_back_when_nothing_was_sent(scene: Scene) -> None:
    scene.enter(ttl_s=86_400)
    for n in range(1, 8):
        lease_runs_out(scene)
        assert scene.used_up() == (str(n), "1")
        assert learn(scene, n, Outcome.NOT_SENT) is State.DEFERRED
        assert scene.used_up() == (str(n), "0")
        scene.run_out()
    assert possible_duplicates(scene) == 0
    assert resolved(scene) == {"not_sent": 7}


def test_so_it_is_where_the_next_call_has_begun(scene: Scene) -> None:
    scene.enter(ttl_s=86_400)
    lease_runs_out(scene, 2)
    scene.run_out()
    assert scene.go() == 3
    for n in (1, 2):
        assert learn(scene, n, Outcome.NOT_SENT) is State.SENDING
    assert scene.used_up() == ("3", "0")
    assert scene.field("m1", "otherwise") is None
    # What was counted when they began stays: nobody could know better then.
    assert possible_duplicates(scene) == 2
    assert scene.record("m1", Outcome.MAYBE_SENT) is State.DEFERRED


def test_a_message_whose_calls_were_all_not_sent_expires_at_the_end_of_its_ttl(
    scene: Scene,
) -> None:
    scene.enter()
    lease_runs_out(scene)
    learn(scene, 1, Outcome.NOT_SENT)
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("expired", None)


@pytest.mark.parametrize("learnt", [Outcome.NOT_SENT, Outcome.REFUSED])
def test_as_long_as_another_call_is_in_doubt_it_does_not(scene: Scene, learnt: Outcome) -> None:
    scene.enter()
    lease_runs_out(scene, 2)
    learn(scene, 1, learnt)
    assert scene.used_up() == ("2", "1")
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")


def test_a_report_that_was_the_reason_before_is_the_reason_again(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", MAYBE_TRANSIENT)
    scene.run_out()
    lease_runs_out(scene)
    assert scene.field("m1", "otherwise") == "local:resends"
    learn(scene, 2, Outcome.NOT_SENT)
    assert scene.used_up() == ("2", "1")
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("failed", "report:MO:0254")


def test_a_call_that_a_failover_had_undone_stays_in_doubt(scene: Scene) -> None:
    """Its own number was taken again, so that the attempts do not show it."""
    scene.enter()
    first = scene.admit()
    assert isinstance(first, Admitted)
    # The failover: the ledger goes back to before, and the message goes again.
    scene.client.hset(keys.message("m1"), mapping={"1:at": first.begun - 1})
    scene.ledger.record("m1", 1, Outcome.MAYBE_SENT, detail="", begun=first.begun)
    scene.run_out()
    learn(scene, 1, Outcome.NOT_SENT)
    scene.run_out_of_ttl()
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")


def test_a_held_message_has_spent_no_resend_and_goes_again(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    lease_runs_out(scene)
    assert scene.state() == "held"
    assert learn(scene, 1, Outcome.NOT_SENT) is State.DEFERRED
    assert scene.field("m1", "resends") in {None, "0"}


def test_a_refusal_that_comes_late_gives_back_too(scene: Scene) -> None:
    scene.enter()
    lease_runs_out(scene)
    scene.run_out()
    scene.go()
    assert learn(scene, 1, Outcome.REFUSED) is State.SENDING
    assert scene.used_up() == ("2", "0")
    assert resolved(scene) == {"refused": 1}


def test_it_is_given_back_once(scene: Scene) -> None:
    scene.enter()
    lease_runs_out(scene, 2)
    for _ in range(3):
        learn(scene, 1, Outcome.NOT_SENT)
    assert scene.used_up() == ("2", "1")
    assert resolved(scene) == {"not_sent": 1}


@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        (Outcome.NOT_SENT, "learnt later: call 3 was not sent"),
        (Outcome.REFUSED, "learnt later: call 3 was refused"),
        (Outcome.ACCEPTED, "learnt later: call 3 was accepted after all"),
    ],
)
def test_a_message_that_has_ended_keeps_its_state_and_says_what_was_learnt(
    scene: Scene, environ: dict[str, str], learnt: Outcome, words: str
) -> None:
    scene.enter()
    lease_runs_out(scene, 3)
    assert (scene.state(), scene.status().reason) == ("failed", "local:resends")
    assert learn(scene, 3, learnt) is State.FAILED
    status = scene.status()
    assert (status.reason, status.detail) == ("local:resends", words)
    assert status.attempts[2].outcome == learnt
    assert resolved(scene) == {str(learnt): 1}
    told = subprocess.run(
        [sys.executable, "-m", "smsq_worker", "explain", "m1"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert words in told.stdout


# A late yes


def test_a_late_yes_ends_the_message_where_the_calls_after_it_came_to_nothing(
    scene: Scene,
) -> None:
    scene.enter()
    lease_runs_out(scene)
    scene.run_out()
    scene.go()
    scene.record("m1", Outcome.NOT_SENT)
    # Another would be a second SMS, and everybody could know it.
    assert learn(scene, 1, Outcome.ACCEPTED, detail="") is State.ACCEPTED
    assert scene.stays() == "copy"
    assert resolved(scene) == {"accepted": 1}
    # And its reports count.
    assert scene.ledger.report(mid_of("m1", 1), "MA:0001", PERMANENT)[0] == "failed"
    assert scene.status().reason == "report:MA:0001"
    scene.check_live("m1")


@pytest.mark.parametrize("second", [Outcome.NOT_SENT, Outcome.REFUSED])
@pytest.mark.parametrize("is_in_doubt", [False, True])
def test_so_it_does_where_they_come_to_nothing_only_then(
    scene: Scene, second: Outcome, *, is_in_doubt: bool
) -> None:
    scene.enter()
    lease_runs_out(scene)
    scene.run_out()
    scene.go()
    if is_in_doubt:
        scene.run_out()
    before = State.DEFERRED if is_in_doubt else State.SENDING
    assert learn(scene, 1, Outcome.ACCEPTED, detail="") is before
    assert learn(scene, 2, second) is State.ACCEPTED
    assert scene.stays() == "copy"
    assert scene.report_on(mid_of("m1", 1), DELIVRD) == "delivered"
    scene.check_live("m1")


def test_so_it_does_where_the_doubt_of_one_between_is_the_last_to_be_resolved(
    scene: Scene,
) -> None:
    scene.enter()
    lease_runs_out(scene, 2)
    scene.run_out()
    scene.go()
    learn(scene, 1, Outcome.ACCEPTED, detail="")
    assert learn(scene, 3, Outcome.NOT_SENT) is State.DEFERRED
    assert learn(scene, 2, Outcome.NOT_SENT) is State.ACCEPTED


def test_it_does_not_where_its_report_said_meanwhile_that_it_did_not_arrive(scene: Scene) -> None:
    scene.enter()
    lease_runs_out(scene)
    scene.run_out()
    scene.go()
    learn(scene, 1, Outcome.ACCEPTED, detail="")
    assert scene.report_on(mid_of("m1", 1), PHONE_IS_OFF) == "sending"
    assert learn(scene, 2, Outcome.NOT_SENT) is State.DEFERRED


@pytest.mark.parametrize("second", [None, Outcome.MAYBE_SENT])
def test_it_does_not_where_one_after_it_may_have_been_sent(
    scene: Scene, second: Outcome | None
) -> None:
    scene.enter()
    lease_runs_out(scene)
    scene.run_out()
    scene.go()
    state = scene.record("m1", second) if second else State.SENDING
    assert learn(scene, 1, Outcome.ACCEPTED, detail="") is state
    assert resolved(scene) == {"accepted": 1}


# A report that takes another back: the call did not arrive, as it seemed


@pytest.mark.parametrize("outcome", [None, Outcome.ACCEPTED, Outcome.MAYBE_SENT, Outcome.NOT_SENT])
@pytest.mark.parametrize("denial", [NO_ROUTE, NO_BALANCE])
def test_a_call_that_arrived_after_all_makes_the_one_after_it_a_possible_duplicate(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    outcome: Outcome | None,
    denial: Report,
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", denial)
    scene.control.resume("account", "test")
    scene.wake()
    scene.go()
    if outcome:
        scene.record("m1", outcome)
    for _ in range(2):
        assert scene.report_on("MID-m1-1", DELIVRD) == "delivered"
    is_counted = outcome is not Outcome.NOT_SENT
    assert possible_duplicates(scene) == is_counted
    assert ("call 1 was reported not to have arrived" in caplog.text) is is_counted


def test_so_it_is_where_that_was_learnt_before_the_one_after_it(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_ROUTE)
    assert scene.report("m1", replace(PHONE_IS_OFF, maybe_sent=True)) == "deferred"
    assert possible_duplicates(scene) == 0
    scene.wake()
    scene.go()
    assert possible_duplicates(scene) == 1


def test_a_denial_that_is_said_once_more_leaves_no_doubt(scene: Scene) -> None:
    """Or the call after it would be counted as it is made, and as the denial is taken back."""
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_ROUTE)
    scene.report("m1", replace(PHONE_IS_OFF, maybe_sent=True))
    scene.control.pause(OF_TEMPLATE, "test")
    assert scene.report("m1", BAD_TEMPLATE) == "deferred"
    scene.control.resume(OF_TEMPLATE, "test")
    assert scene.woken() == ["m1"]
    scene.go()
    assert possible_duplicates(scene) == 0
    scene.record("m1", Outcome.ACCEPTED)
    assert scene.report_on("MID-m1-1", DELIVRD) == "delivered"
    assert possible_duplicates(scene) == 1


def test_the_call_after_one_that_did_not_arrive_is_no_duplicate(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", NO_ROUTE)
    scene.wake()
    scene.accept("m1")
    for _ in range(2):
        assert scene.report("m1", DELIVRD) == "delivered"
    assert possible_duplicates(scene) == 0
