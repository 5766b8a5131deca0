"""What `smsq explain` may say: no more than is known, of calls in doubt, callbacks and refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from harness.scene import DELIVRD, Scene
from harness.timeline import Explain
from smsq.contract import State
from smsq.tracking import Attempt, Status
from smsq_worker.domain.codes import Catalogue, Catalogues
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection.state_text import state_words
from smsq_worker.ledger.callbacks import Callbacks

CATALOGUES = Catalogues({"": Catalogue.load()})
NOW = datetime(2026, 11, 29, tzinfo=UTC)
NOT_SENT, REFUSED, MAYBE = Outcome.NOT_SENT, Outcome.REFUSED, Outcome.MAYBE_SENT
ACCEPTED = Outcome.ACCEPTED
Call = tuple[str | None, str | None]
"""Its outcome, and what was reported."""


def ended(state: str, reason: str = "", *calls: Call) -> Status:
    """Make the status of a message of which all else is of no matter."""
    attempts = [Attempt(n, NOW, "mid", out, code, "") for n, (out, code) in enumerate(calls, 1)]
    certain = state in {"failed", "expired", "cancelled"} and all(
        out in {NOT_SENT, REFUSED} for out, _ in calls
    )
    nothing = dict.fromkeys(("phone", "template", "stat", "detail", "reference", "accepted_at"))
    more = {"lane": "otp", "enqueued_at": NOW, "finished_at": NOW, "allowed_at": None}
    return Status(
        id="m1",
        state=state,
        reason=reason or None,
        attempts=tuple(attempts),
        certainly_not_sent=certain,
        **nothing | more,
    )


def last(explain: Explain) -> str:
    """Give the last that happened, as JSON has it."""
    return str(json.loads(explain("m1", "--json")[1])["events"][-1]["text"])


def test_after_calls_in_doubt_nothing_is_claimed_of_the_delivery(
    explain: Explain, scene: Scene
) -> None:
    calls = scene.rules.max_resends + 1
    scene.enter(lane="otp")
    for _ in range(calls):
        scene.go()
        scene.record("m1", MAYBE, detail="ReadTimeout")
        if scene.state() != "failed":
            scene.run_out()
    told = explain("m1")[1]
    assert "not delivered" not in told
    assert told.count(f"{calls} calls may each have reached the phone") == 2  # the head, the end


@pytest.mark.parametrize(
    ("state", "reason", "calls", "told"),
    [
        ("expired", "", [], "its ttl ran out; it certainly was not sent"),
        ("expired", "", [(MAYBE, None)], "its ttl ran out; it is not known whether it was deliv"),
        ("cancelled", "", [(NOT_SENT, None)], "it was cancelled; it certainly was not sent"),
        ("failed", "gateway:400", [(REFUSED, None)], "again; it certainly was not sent"),
        ("failed", "local:resends", [(MAYBE, None)], "one call may have reached the phone"),
        ("failed", "local:dropped", [(None, None)] * 3, "3 calls may each have reached the phone"),
        # A replica took over: what was undone is in no attempt.
        ("failed", "gateway:400", [], "again; it certainly was not sent"),
        ("failed", "report:MA:0001", [(ACCEPTED, "MA:0001")], "a report says that it was not deli"),
        ("failed", "report:MO:0254", [(ACCEPTED, "MO:0254")], "does not rule out that it was deli"),
        (
            "failed",
            "report:MA:0001",
            [(MAYBE, None), (NOT_SENT, None), (MAYBE, None), (ACCEPTED, "MA:0001")],
            "not delivered; of 2 other calls nothing is known, and each may have reached the phone",
        ),
        # Accepted, and never reported on.
        ("failed", "local:dropped", [(ACCEPTED, None)], "one call may have reached the phone"),
        ("delivered", "", [(ACCEPTED, "DELIVRD")], "a report says that it reached the phone"),
        ("duplicate", "duplicate:m0", [], "this one was not sent"),
        ("dreaming", "", [], "a state of a newer release, which this one does not know"),
    ],
)
def test_a_states_words_say_how_certain_it_is(
    state: str, reason: str, calls: list[Call], told: str
) -> None:
    assert told in state_words(ended(state, reason, *calls), CATALOGUES)


def test_every_state_has_words() -> None:
    for state in State:
        assert "newer release" not in state_words(ended(state), CATALOGUES)


def test_of_an_attempt_that_a_failover_undid_nothing_is_claimed(
    explain: Explain, scene: Scene
) -> None:
    scene.enter()
    scene.go()
    scene.record("m1", REFUSED)
    scene.client.hset("smsq:m:m1", "0:outcome", "maybe_sent")
    assert "it is not known whether it was delivered; reason" in last(explain)


def test_a_task_is_said_to_lie_in_its_queue_and_not_to_have_run(
    explain: Explain, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.enter(notify="shop.tasks.done")
    scene.accept()
    scene.report("m1", DELIVRD)
    callbacks = Callbacks(scene.client, scene.rules)
    callbacks.take("task:delivered:m1")
    callbacks.settle("task:delivered:m1", "told", error="", wait_s=0, give_up_s=0)
    monkeypatch.setenv("SMSQ_NOTIFY_QUEUE", "shop.told")
    told = last(explain)
    assert told.startswith("delivered was put into the queue shop.told for the task shop.tasks")
    assert "the application's own worker must run it there, which smsq cannot see" in told
    assert "has been told" not in told
    assert "reported to" not in told


def test_a_duplicate_is_not_said_to_have_been_reported_to_its_return_address(
    explain: Explain, scene: Scene
) -> None:
    scene.enter("first", key="k")
    scene.enter(key="k")
    scene.client.hset("smsq:m:m1", "returnurl", "https://shop.example/r")
    scene.client.delete("smsq:notices")
    assert "shop.example" not in explain("m1")[1]


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ("gateway:400 校验失败", "; 校验失败 usually means that SMSQ_APP_SECRET is wrong"),
        ("gateway:400 wrong number", "gateway:400: the gateway's own response to the attempt"),
    ],
)
def test_a_wrong_secret_is_named_and_nothing_else_is_taken_for_it(
    explain: Explain, scene: Scene, detail: str, told: str
) -> None:
    scene.call("m1", REFUSED, detail=detail)
    end = last(explain)
    assert told in end
    assert ("SMSQ_APP_SECRET" in end) == ("校验失败" in detail)


def test_an_answer_that_asks_to_wait_is_not_said_to_have_never_arrived(
    explain: Explain, scene: Scene
) -> None:
    scene.call("m1", NOT_SENT, detail="http 429")
    told = last(explain)
    assert told == "attempt 1: the gateway certainly did not take it (http 429)"
