"""What an act writes once for all of its messages, when it ends: complete, also where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis

from harness.scene import DELIVRD, NO_BALANCE, PHONE_IS_OFF, TEMPLATE, Scene, mid_of, stat
from smsq import keys
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, AttemptResult, Report
from smsq_worker.ledger.errors import LedgerFault

MANY = [f"m{n}" for n in range(25)]
GONE = stat("MA:0001", "permanent")


def admit_all(scene: Scene, names: list[str]) -> None:
    for name in names:
        scene.enter(name)
    answers = scene.ledger.admit_many([(name, "") for name in names])
    assert all(isinstance(one, Admitted) for one in answers)


def accept_all(scene: Scene, names: list[str]) -> None:
    admit_all(scene, names)
    states = scene.ledger.record_many([accepted(name) for name in names])
    assert set(states) == {"accepted"}


def accepted(name: str) -> AttemptResult:
    return AttemptResult(name, 1, Outcome.ACCEPTED, "", mid_of(name, 1))


def reports(*said: tuple[str, Report]) -> list[tuple[str, str, Report]]:
    return [(mid_of(name, 1), report.stat, report) for name, report in said]


def timers(scene: Scene) -> set[str]:
    return {str(name) for name in scene.client.zrange(keys.TIMERS, 0, -1)}


def test_one_act_takes_reports_of_all_kinds(scene: Scene) -> None:
    accept_all(scene, MANY)
    said = reports(
        ("m0", DELIVRD), ("m1", GONE), ("m2", PHONE_IS_OFF), ("none", DELIVRD), ("m3", DELIVRD)
    )
    scene.ledger.take_in([(mid, code) for mid, code, _ in said], wake_after_s=30)

    answers = scene.ledger.report_many(said)

    assert [state for state, *_ in answers] == [
        "delivered",
        "failed",
        "deferred",
        "parked",
        "delivered",
    ]
    assert scene.client.zcard(keys.INBOX) == 0
    assert scene.ledger.parked_stats(mid_of("none", 1)) == ["DELIVRD"]
    assert timers(scene) == set(MANY) - {"m0", "m1", "m3"}
    assert scene.ledger.counters()["reports:DELIVRD"] == 3
    scene.check_live(*MANY)
    window: Any = scene.client.hgetall(f"smsq:reports:{TEMPLATE}")
    assert (window["notice:good"], window["notice:bad"]) == ("4", "0")


def test_what_an_act_says_twice_of_a_message_counts_in_its_order(scene: Scene) -> None:
    accept_all(scene, ["m1", "m2"])
    answers = scene.ledger.report_many(
        reports(("m1", PHONE_IS_OFF), ("m1", DELIVRD), ("m2", DELIVRD), ("m2", PHONE_IS_OFF))
    )
    assert [state for state, *_ in answers] == ["deferred", "delivered", "delivered", "delivered"]
    assert timers(scene) == set()
    assert scene.client.zcard(keys.NOTICE_TIMERS) == 0
    assert not scene.client.exists(keys.payload("m1"), keys.payload("m2"))
    assert [scene.status(name).stat for name in ("m1", "m2")] == ["DELIVRD", "DELIVRD"]
    scene.check_live("m1", "m2")


def test_a_report_that_was_there_first_ends_the_message_in_the_act_of_its_result(
    scene: Scene,
) -> None:
    admit_all(scene, MANY)
    scene.ledger.report_many(reports(("m3", DELIVRD), ("m4", GONE)))
    states = scene.ledger.record_many([accepted(name) for name in MANY])
    assert (states[3], states[4], set(states[5:])) == ("delivered", "failed", {"accepted"})
    assert timers(scene) == set(MANY) - {"m3", "m4"}
    assert scene.client.zcard(keys.LEASES) == scene.client.zcard(keys.PARKED) == 0
    assert not list(scene.client.scan_iter(f"{keys.EARLY}*"))
    scene.check_live(*MANY)


def test_an_act_that_fails_leaves_what_came_before_complete(
    scene: Scene, client: redis.Redis
) -> None:
    admit_all(scene, ["m1", "m2", "m3"])
    lease = scene.timer("m1")
    client.delete(keys.message("m2"))
    client.set(keys.message("m2"), "no hash")
    with pytest.raises(LedgerFault):
        scene.ledger.record_many([accepted(name) for name in ("m1", "m2", "m3")])
    assert (scene.state("m1"), scene.state("m3")) == ("accepted", "sending")
    # Its timer is that of its report, and no lease that runs out.
    assert scene.timer("m1") > lease
    assert set(client.zrange(keys.LEASES, 0, -1)) == {"m2", "m3"}
    assert scene.control.live()["notice:accepted"] == 1
    assert scene.ledger.counters()["calls:accepted"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client: client.hset(keys.COUNTERS, "messages:notice:sending", "many"),
        lambda client: client.set(keys.COUNTERS, "no hash"),
    ],
    ids=["a counter that is no number", "no counters"],
)
def test_counting_costs_no_act_its_answer(
    scene: Scene, caplog: pytest.LogCaptureFixture, spoil: Callable[[redis.Redis], object]
) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    scene.client.delete(keys.COUNTERS)
    spoil(scene.client)
    with caplog.at_level(logging.WARNING):
        answers = scene.ledger.admit_many([("m1", ""), ("m2", "")])
    assert all(isinstance(one, Admitted) for one in answers)
    assert set(scene.client.zrange(keys.LEASES, 0, -1)) == {"m1", "m2"}
    assert "counting messages:notice:sending failed" in caplog.text


def test_one_thing_that_cannot_be_written_keeps_nothing_else_from_being_written(
    scene: Scene, client: redis.Redis
) -> None:
    accept_all(scene, ["m1"])
    client.set(keys.INBOX, "no sorted set")
    with pytest.raises(LedgerFault):
        scene.ledger.report_many(reports(("m1", DELIVRD)))
    assert scene.state("m1") == "delivered"
    assert timers(scene) == set()
    assert not client.exists(keys.payload("m1"))
    assert scene.ledger.counters()["messages:notice:delivered"] == 1


def test_a_message_that_ends_keeps_what_a_newer_release_noted_of_it_and_becomes_compact(
    scene: Scene, client: redis.Redis
) -> None:
    accept_all(scene, ["m1"])
    client.hset(keys.message("m1"), mapping={"of_tomorrow": "1", "1:detail": "x" * 100})
    assert client.object("encoding", keys.message("m1")) != "listpack"
    client.hset(keys.message("m1"), "1:detail", "")
    scene.ledger.report_many(reports(("m1", DELIVRD)))
    stored: Any = client.hgetall(keys.message("m1"))
    assert stored.keys() == {"state", "template", "of_tomorrow", "fold", "1"}
    assert client.object("encoding", keys.message("m1")) == "listpack"
    assert client.pttl(keys.message("m1")) > 0


def test_news_after_the_end_changes_nothing_of_how_long_it_is_kept(
    scene: Scene, client: redis.Redis
) -> None:
    accept_all(scene, ["m1"])
    scene.ledger.report_many(reports(("m1", DELIVRD)))
    stored = client.hgetall(keys.message("m1"))
    client.pexpire(keys.message("m1"), 50_000)
    scene.ledger.report_many(reports(("m1", DELIVRD), ("m1", PHONE_IS_OFF)))
    assert 0 < int(client.pttl(keys.message("m1"))) <= 50_000  # type: ignore[arg-type]
    now: Any = client.hgetall(keys.message("m1"))
    assert now["state"] == "delivered"
    # The attempt's own stat is another than the message's by now.
    assert now.keys() - set(stored) <= {
        f"1:{name}" for name in ("at", "mid", "outcome", "detail", "stat")
    }  # type: ignore[arg-type]


def test_a_pause_that_a_report_of_an_act_begins_and_another_ends_is_over(scene: Scene) -> None:
    accept_all(scene, ["m1", "m2"])
    answers = scene.ledger.report_many(reports(("m1", NO_BALANCE)))
    assert [state for state, *_ in answers] == ["deferred"]
    assert scene.paused() == {"account": "report"}
    accept_all_through_pause(scene)
    scene.ledger.report_many(reports(("m2", NO_BALANCE), ("m9", DELIVRD)))
    assert scene.paused() == {}


def accept_all_through_pause(scene: Scene) -> None:
    """Let a probe through the account's pause."""
    scene.enter("m9")
    scene.probe_is_due("account")
    scene.accept("m9", detail="")


def test_acts_of_many_need_few_commands_for_each_message(scene: Scene, client: redis.Redis) -> None:
    """The figures are those of `make bench ONLY=acts`, rounded up."""

    def commands(act: Callable[[], object]) -> float:
        client.config_resetstat()
        act()
        stats: Any = client.info("commandstats")
        return sum(one["calls"] for one in stats.values()) / len(MANY)

    admit_all(scene, MANY)  # Scripts are loaded, and the first act of a ledger is over.
    scene.ledger.record_many([accepted(name) for name in MANY])
    names = [f"n{name}" for name in MANY]
    for name in names:
        scene.enter(name)
    said = [(mid_of(name, 1), "DELIVRD", DELIVRD) for name in names]
    assert commands(lambda: scene.ledger.admit_many([(name, "") for name in names])) < 9
    assert commands(lambda: scene.ledger.record_many([accepted(name) for name in names])) < 6
    assert commands(lambda: scene.ledger.report_many(said)) < 8
