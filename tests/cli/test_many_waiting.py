"""More is held, parked or given up than a command lists: what it counts and does is of all."""

from __future__ import annotations

import importlib

import pytest
import redis

from harness.cli import here
from harness.scene import Scene
from smsq import keys
from smsq_worker.domain.states import Outcome


@pytest.fixture(autouse=True)
def few_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("held", "parked", "notices"):
        module = importlib.import_module(f"smsq_worker.cli.commands.{name}")
        monkeypatch.setattr(module, "AT_MOST", 2)


@pytest.fixture
def held(scene: Scene) -> Scene:
    for n, name in enumerate(("m1", "m2", "m3"), 1):
        scene.enter(name, on_ambiguous="hold")
        scene.go(name)
        scene.record(name, Outcome.MAYBE_SENT)
        scene.client.zadd(keys.HELD, {name: n}, xx=True)
    return scene


def test_all_that_are_held_are_counted(
    held: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = here(monkeypatch, capsys, "held")
    first, second, note, count = out.splitlines()
    assert (code, first[:2], second[:2], count) == (0, "m1", "m2", "3 held")
    assert note == "these are the 2 that have been held for longest, of all:"


@pytest.mark.parametrize(("decision", "state"), [("drop", "failed"), ("resend", "deferred")])
def test_all_that_are_held_are_decided(
    held: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    decision: str,
    state: str,
) -> None:
    code, out, _ = here(monkeypatch, capsys, "held", decision, "--all", "--yes")
    assert (code, len(out.splitlines())) == (0, 3)
    assert {held.state(name) for name in ("m1", "m2", "m3")} <= {state, "queued"}
    assert not held.client.exists(keys.HELD)


def test_as_many_as_are_listed_need_no_note(
    held: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held.ledger.decide("m1", "drop")
    _, out, _ = here(monkeypatch, capsys, "held")
    assert [line[:2] for line in out.splitlines()] == ["m2", "m3", "2 "]


def test_all_that_are_parked_are_counted(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client.zadd(keys.PARKED, {"A1": 1, "A2": 2, "A3": 3})
    code, out, _ = here(monkeypatch, capsys, "parked")
    first, second, note, count = out.splitlines()
    assert (code, first[:2], second[:2], count) == (0, "A1", "A2", "3 mids")
    assert note == "these are the oldest 2, of all:"


def test_all_callbacks_that_were_given_up_are_decided(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"webhook:delivered:m{n}" for n in range(3)]
    for n, name in enumerate(names):
        client.zadd(keys.DEAD_NOTICES, {name: n})
    code, out, _ = here(monkeypatch, capsys, "notices", "drop", "--all", "--yes")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, names)
    assert not client.exists(keys.DEAD_NOTICES)
