"""Workers of one ledger whose settings of the rate differ: each says so once, and so do screens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from harness.accounts import MAIN, accounts_file, backup
from harness.machine import machine
from harness.scene import Scene
from harness.waiting import eventually
from smsq import keys
from smsq_worker.cli.views import rate as view
from smsq_worker.config.settings import Settings
from smsq_worker.doctor import accounts as examined
from smsq_worker.ledger import accounts
from smsq_worker.scheduler.other_rates import OtherRates

SLOW = {"SMSQ_RATE_PER_S": "10", "SMSQ_RATE_BURST": "1"}
FAST = {"SMSQ_RATE_PER_S": "50.5", "SMSQ_RATE_BURST": "5"}

Side = Callable[[], None]


def side(client: redis.Redis, settings: Settings) -> Side:
    """A worker's claims, and what it says of them."""
    scene, rates = Scene(client, settings), OtherRates()
    return lambda: rates.note(scene.claim().other_rates)


@pytest.fixture
def two(environ: dict[str, str], client: redis.Redis) -> tuple[Side, Side]:
    return (
        side(client, Settings.load(environ | SLOW)),
        side(client, Settings.load(environ | FAST)),
    )


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_each_says_it_once(two: tuple[Side, Side], caplog: pytest.LogCaptureFixture) -> None:
    slow, fast = two
    for _ in range(4):
        slow()
        fast()
    one, other = told(caplog)
    assert "the rate is 10/s, burst 1 in this worker's settings, and 50.5/s, burst 5 in" in one
    assert "the rate is 50.5/s, burst 5 in this worker's settings, and 10/s, burst 1 in" in other


def test_one_that_takes_anothers_place_says_nothing(
    two: tuple[Side, Side], caplog: pytest.LogCaptureFixture, scene: Scene
) -> None:
    slow, fast = two
    slow()
    for _ in range(3):
        fast()
        assert scene.control.rate().of_workers == ()
    assert told(caplog) == []


def test_an_operators_rate_holds_for_all(
    two: tuple[Side, Side], caplog: pytest.LogCaptureFixture, scene: Scene
) -> None:
    scene.control.set_rate(20, 2)
    for _ in range(3):
        for one in two:
            one()
    assert told(caplog) == []
    assert scene.control.rate().of_workers == ()


def test_doctor_and_rate_show_both_as_long_as_it_is_so(
    two: tuple[Side, Side], scene: Scene, settings: Settings
) -> None:
    for one in (*two, *two):
        one()
    (finding,) = examined.check(settings, scene.client)
    assert finding.level == "warning"
    assert "some workers have a rate of 10/s, burst 1, others of 50.5/s, burst 5" in finding.what
    *_, line = view.lines(scene.control.rate())
    assert line == "differ workers go by two limits: 10/s, burst 1, and 50.5/s, burst 5"

    scene.client.hincrby(keys.RATE, "differs", -5000)
    assert not [*examined.check(settings, scene.client)]
    assert len([*view.lines(scene.control.rate())]) == 2


def test_of_several_accounts_the_one_is_named(
    environ: dict[str, str],
    client: redis.Redis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = '[[routes]]\naccounts = ["main", "backup"]\n'
    loaded = []
    for n, rate in enumerate((7, 9)):
        (folder := tmp_path / str(n)).mkdir()
        file = accounts_file(folder, MAIN, backup(rate_per_s=rate), both)
        loaded.append(Settings.load(environ | {"SMSQ_ACCOUNTS_FILE": file}))
    accounts.introduce(client, loaded[0].rules)
    sides = [side(client, one) for one in loaded]
    for one in (*sides, *sides):
        one()
    assert len(told(caplog)) == 2
    assert all("the rate of account" in words for words in told(caplog))
    found = [one.what for one in examined.check(loaded[0], client) if one.level == "warning"]
    assert len(found) == 1
    assert found[0].startswith("account backup: some workers have a rate of 7/s")


def test_after_the_clock_was_set_back_it_is_told_as_before(
    two: tuple[Side, Side], scene: Scene
) -> None:
    for one in (*two, *two):
        one()
    for field in ("differs", "differed"):
        scene.client.hincrby(keys.RATE, field, 3_600_000)
    scene.client.hset(keys.SCHEMA, "now", scene.now_ms() + 3_600_000)
    two[1]()
    assert int(scene.client.hget(keys.RATE, "differs") or 0) <= scene.now_ms()
    assert scene.control.rate().of_workers


def test_workers_say_it_in_their_logs(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    with machine(environ, tmp_path) as here:
        here.start_worker(**SLOW)
        here.start_worker(**FAST)
        for name, own in (("worker0.log", "10/s, burst 1"), ("worker1.log", "50.5/s, burst 5")):
            words = f"the rate is {own} in this worker's settings"
            log = tmp_path / name
            eventually(lambda log=log, words=words: words in log.read_text())  # type: ignore[misc]
