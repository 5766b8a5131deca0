"""A connection that is lost after an act was done, and before its answer came."""

from __future__ import annotations

from typing import Any

import pytest
import redis

import smsq.connection
from harness.scene import Scene
from smsq_worker.ledger import Admitted


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
