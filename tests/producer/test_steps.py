"""Steps that are taken side by side, and many messages read by them."""

from __future__ import annotations

import pytest
import redis

from harness.scene import DELIVRD, Scene
from smsq import tracking
from smsq.connection import connect
from smsq.errors import LedgerUnavailable
from smsq.steps import Answers, Commands, Steps, abreast, answered, done, drive
from smsq.tracking import read_status, read_statuses
from smsq_worker.domain.states import Outcome


def counting(name: str, times: int) -> Steps[str]:
    heard = ""
    for n in range(times):
        heard += "".join((yield [(name, n), (name, "again")]))
    return heard


def test_what_several_ask_for_is_one_exchange() -> None:
    exchanges: list[Commands] = []

    def do(commands: Commands) -> Answers:
        exchanges.append(commands)
        return [f"{name}{what} " for name, what in commands]

    found = drive(abreast([counting("a", 2), done("at once"), counting("b", 1)]), do)

    assert found == ["a0 aagain a1 aagain ", "at once", "b0 bagain "]
    assert exchanges == [
        [("a", 0), ("a", "again"), ("b", 0), ("b", "again")],
        [("a", 1), ("a", "again")],
    ]


def test_nothing_asks_for_nothing() -> None:
    assert drive(abreast(list[Steps[str]]()), lambda _: []) == []


def test_one_that_hears_an_error_ends_all() -> None:
    error = redis.ResponseError("no")
    several = [answered([("a",)]), answered([("b",)])]

    with pytest.raises(redis.ResponseError, match="no"):
        drive(abreast(several), lambda _: ["fine", error])


def test_many_are_read_as_each_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "AT_ONCE", 2)
    scene.call("m1", Outcome.ACCEPTED)
    scene.report("m1", DELIVRD)
    scene.enter("m2", campaign="spring")
    scene.call("m3", Outcome.MAYBE_SENT)
    ids = ["m1", "unknown", "m2", "no id, as it is too long" * 99, "m3"]

    found = list(read_statuses(scene.client, "", ids))

    assert found == [read_status(scene.client, "", one) for one in ids]
    assert [one and one.id for one in found] == ["m1", None, "m2", None, "m3"]


def test_a_redis_that_is_away_is_named_once_for_many() -> None:
    url = "redis://127.0.0.1:1/0"
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:1"), connect(url, try_s=1) as client:
        list(read_statuses(client, url, ["m1", "m2"]))
