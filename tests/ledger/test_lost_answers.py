"""A connection that is lost after an act was done, and before its answer came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

import smsq.connection
from harness.scene import Scene
from smsq.boottime import now_s
from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.ledger import Admitted, Ledger, Rejected


@pytest.fixture
def loses_an_answer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lose the next answer; the client sends its command again."""
    try_for_good, lost = smsq.connection._try, list[str]()

    def lose_one(connection: Any, commands: Any) -> list[Any]:
        answers = try_for_good(connection, commands)
        if not lost:
            lost.append("one")
            raise redis.ConnectionError
        return answers

    monkeypatch.setattr(smsq.connection, "_try", lose_one)
    return lost


def test_what_was_admitted_is_submitted_and_not_left_to_its_lease(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    names = [f"m{n}" for n in range(25)]
    for n, name in enumerate(names):
        scene.enter(name, phone=f"138{n:08}", lane="bulk")
    scene.ledger.admit_many([("no such message", "")])
    lost = request.getfixturevalue("loses_an_answer")
    got = scene.ledger.admit_many([(name, "") for name in names])
    assert lost
    admitted = [one for one in got if isinstance(one, Admitted)]
    assert [one.phone for one in admitted] == [f"138{n:08}" for n in range(25)]
    for name, one in zip(names, admitted, strict=True):
        assert one.attempt == 1
        assert scene.ledger.depart(name, one), "another send time"
    # Whoever else asks for them gets none.
    assert scene.stays("m1") == "copy"


@pytest.fixture
def loses_all_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lose all answers, of the tries of a client too, until the network is back."""
    try_for_good = smsq.connection._try

    def lose(connection: Any, commands: Any) -> list[Any]:
        try_for_good(connection, commands)
        raise redis.ConnectionError

    monkeypatch.setattr(smsq.connection, "_try", lose)
    return lambda: monkeypatch.setattr(smsq.connection, "_try", try_for_good)


def test_what_was_admitted_is_submitted_once_redis_is_back_before_its_lease_ends(
    scene: Scene, request: pytest.FixtureRequest
) -> None:
    for n, name in enumerate("abcd"):
        scene.enter(name, phone=f"138{n:08}")
    scene.ledger.admit_many([("no such message", "")])  # From then on it has its cipher.
    is_back = request.getfixturevalue("loses_all_answers")
    began = now_s()
    for names in ("ab", "c"):
        with pytest.raises(LedgerUnavailable):
            scene.ledger.admit_many([(name, "") for name in names])
    lost = now_s()
    is_back()
    assert {scene.state(name) for name in "abc"} == {"sending"}
    others = Ledger(scene.client, scene.rules)
    assert others.admit("a") == Rejected("copy", State.SENDING), "it is another's"
    got = scene.ledger.admit_many([(name, "") for name in "abcd"])
    lease_s = scene.rules.lease_s
    for one, is_known in zip(got, (True, True, True, False), strict=True):
        assert isinstance(one, Admitted)
        assert one.attempt == 1
        # Not later than the ledger's.
        assert (one.lease_ends <= lost + lease_s) == is_known
        assert one.lease_ends >= began + lease_s
    # It is asked for once.
    assert [scene.stays(name) for name in "abcd"] == ["copy"] * 4
    assert not scene.ledger.counters().get("possible_duplicates")


def test_an_answer_that_is_lost_for_as_long_as_the_lease_is_in_doubt(
    scene: Scene, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.enter()
    scene.ledger.admit_many([("no such message", "")])  # From then on it has its cipher.
    is_back = request.getfixturevalue("loses_all_answers")
    with pytest.raises(LedgerUnavailable):
        scene.ledger.admit("m1")
    is_back()
    after = now_s() + scene.rules.lease_s
    monkeypatch.setattr("smsq_worker.ledger.sending.now_s", lambda: after)
    assert scene.stays("m1") == "copy"
    assert not scene.ledger._unanswered
