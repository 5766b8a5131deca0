"""What a newer release may leave in the ledger: unknown states, and marks that forbid sending."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
import redis

import smsq
from harness.cli import here
from harness.scene import DELIVRD, PHONE, TEMPLATE, Scene
from harness.waiting import known
from smsq import keys
from smsq.contract import State
from smsq.errors import InvalidMessage
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Rejected

# --- states ---------------------------------------------------------------------------------


def become(client: redis.Redis, state: str) -> None:
    client.hset(keys.message("m1"), "state", state)


def test_a_state_of_a_newer_release_is_shown_as_its_text(
    client: redis.Redis,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene.enter()
    become(client, "translated")
    status = known("m1")
    assert (status.state, status.final) == ("translated", False)
    code, shown, _ = here(monkeypatch, capsys, "status", "m1", "--json")
    assert (code, json.loads(shown)["state"]) == (0, "translated")
    code, shown, told = here(monkeypatch, capsys, "explain", "m1")
    assert (code, told) == (0, "")
    assert "translated: a state of a newer release" in shown
    assert scene.enter() == "translated"


def test_an_unknown_state_is_no_member_and_no_choice() -> None:
    assert State("translated") not in list(State)
    with pytest.raises(ValueError, match="not a valid State"):
        State(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage, match="lane must be one"):
        smsq.send_sms.delay(PHONE, TEMPLATE, lane="translated")


def test_a_cancelled_message_is_known_and_only_its_delivery_moves_it_on(
    client: redis.Redis, scene: Scene
) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    become(client, "cancelled")
    assert known("m1").final
    scene.run_out("m1")
    assert known("m1").state == "cancelled"
    scene.report("m1", DELIVRD)
    assert known("m1").state == "delivered"


@pytest.mark.parametrize("before", ["queued", "sending", "accepted"])
def test_no_act_moves_or_forgets_a_message_in_an_unknown_state(
    client: redis.Redis, scene: Scene, before: str
) -> None:
    """Its timer stays, for the newer release's worker; others of the same act are not held up."""
    scene.enter("m1")
    if before != "queued":
        scene.go("m1")
    if before == "accepted":
        scene.record("m1", Outcome.ACCEPTED)
    become(client, "translated")
    client.zadd(keys.TIMERS, {"m1": 1})
    scene.enter("other", send_at=time.time() + 60)
    assert scene.run_out("other") == ["other"]
    assert float(client.zscore(keys.TIMERS, "m1") or 0) > 1
    assert scene.admit("m1") == Rejected("copy", State("translated"))
    if before == "sending":
        assert scene.record("m1", Outcome.ACCEPTED) == "translated"
        assert scene.field("m1", "1:outcome") == "accepted"
    if before != "queued":
        scene.report("m1", DELIVRD)
    assert known("m1").state == "translated"


# --- marks ----------------------------------------------------------------------------------


def of_a_message(client: redis.Redis, why: str) -> None:
    client.hset(keys.message("m1"), "stop", why)


def of_a_campaign(client: redis.Redis, why: str) -> None:
    client.hset(keys.message("m1"), "campaign", "spring")
    client.hset(keys.campaign("spring"), mapping={"at": 1, "stop": why})
    client.hset(keys.STOPS, "campaign:spring", 1)


def of_an_account(client: redis.Redis, why: str) -> None:
    client.hset(keys.message("m1"), "account", "backup")
    client.hset(keys.STOPS, "account:backup", why)


def of_the_default_account(client: redis.Redis, why: str) -> None:
    client.hset(keys.STOPS, "account:default", why)


Mark = Callable[[redis.Redis, str], None]
MARKS = pytest.mark.parametrize(
    "mark", [of_a_message, of_a_campaign, of_an_account, of_the_default_account]
)


@MARKS
def test_what_is_cancelled_is_not_sent(client: redis.Redis, scene: Scene, mark: Mark) -> None:
    scene.enter()
    mark(client, "cancelled")
    assert scene.admit() == Rejected("ended", State.CANCELLED)
    status = known("m1")
    assert (status.state, status.reason, status.attempts) == ("cancelled", None, ())
    assert client.zscore(keys.TIMERS, "m1") is None
    assert not client.exists(keys.payload("m1"))


@MARKS
def test_what_may_have_been_sent_is_not_called_cancelled(
    client: redis.Redis, scene: Scene, mark: Mark
) -> None:
    scene.call("m1", Outcome.MAYBE_SENT)
    mark(client, "cancelled")
    scene.run_out("m1")
    assert scene.state() == State.FAILED or scene.admit() == Rejected("ended", State.FAILED)
    assert known("m1").reason == "local:cancelled"


@pytest.mark.parametrize("mark", [of_a_message, of_an_account, of_the_default_account])
def test_what_is_stopped_waits_until_the_mark_is_lifted(
    client: redis.Redis, scene: Scene, mark: Mark
) -> None:
    scene.enter()
    mark(client, "paused")
    assert scene.admit() == Rejected("deferred", State.DEFERRED)
    scene.run_out("m1")
    assert scene.admit() == Rejected("deferred", State.DEFERRED)
    client.delete(keys.STOPS)
    client.hdel(keys.message("m1"), "stop")
    scene.run_out("m1")
    assert scene.go() == 1


def test_a_mark_stops_nothing_else(client: redis.Redis, scene: Scene) -> None:
    client.hset(keys.STOPS, mapping={"account:backup": "cancelled"})
    scene.enter()
    assert scene.go() == 1
