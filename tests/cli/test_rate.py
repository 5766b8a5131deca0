"""`smsq rate`: what it shows and sets, and what it refuses."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import redis

from harness.cli import run
from smsq import keys
from smsq.errors import SettingsError
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.admin import Control

TEN = {"SMSQ_RATE_PER_S": "10", "SMSQ_RATE_BURST": "2"}


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | TEN


def slow_down(client: redis.Redis, to: float, seconds_ago: int = 0) -> int:
    """Let the gateway have wanted fewer calls; give when, in Unix seconds."""
    at: int = client.time()[0] - seconds_ago
    client.hset(keys.RATE, mapping={"slow": to, "slow_at": at * 1000})
    return at


def test_the_rate_of_the_settings_is_shown(environ: dict[str, str]) -> None:
    done = run(environ, "rate")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "limit  10/s, burst 2: the workers' settings SMSQ_RATE_PER_S, SMSQ_RATE_BURST",
        "now    10/s",
    ]
    assert json.loads(run(environ, "rate", "--json").stdout) == {
        "limit": 10,
        "burst": 2,
        "set_by": "settings",
        "now": 10,
        "back_at": None,
    }


def test_the_rate_is_set_for_all_workers_and_goes_back(
    environ: dict[str, str], control: Control
) -> None:
    done = run(environ, "rate", "50")
    assert done.returncode == 0
    assert done.stdout.startswith("limit  50/s, burst 2: set by an operator;")
    assert (control.rate().limit, control.rate().burst) == (50, 2)

    run(environ, "rate", "0.5", "--burst", "5")
    assert (control.rate().limit, control.rate().burst) == (0.5, 5)
    told = json.loads(run(environ, "rate", "0.5", "--json").stdout)
    assert (told["burst"], told["set_by"]) == (5, "operator")

    done = run(environ, "rate", "--reset")
    assert done.returncode == 0
    assert (control.rate().limit, control.rate().burst) == (10, 2)
    assert not control.rate().by_operator


def test_a_rate_that_is_slowed_down_says_when_it_is_back(
    environ: dict[str, str], client: redis.Redis, control: Control
) -> None:
    at = slow_down(client, to=2.5, seconds_ago=11)  # one step, of 1/s, has been made
    told = json.loads(run(environ, "rate", "--json").stdout)
    assert (told["limit"], told["now"]) == (10, 3.5)
    assert datetime.fromisoformat(told["back_at"]).timestamp() == at + 80
    # A person is told in local time, with its offset; JSON stays in UTC.
    shanghai = datetime.fromisoformat(told["back_at"]).astimezone(timezone(timedelta(hours=8)))
    shown = run(environ | {"TZ": "Asia/Shanghai"}, "rate").stdout
    assert f"back at 10/s by {shanghai.isoformat(sep=' ')} if it is content" in shown

    slow_down(client, to=2.5, seconds_ago=80)
    assert (control.rate().now, control.rate().back_at) == (10, None)


@pytest.mark.parametrize("words", [("20",), ("--reset",)])
def test_setting_the_rate_ends_a_slowdown_and_forgets_turns_far_ahead(
    environ: dict[str, str], client: redis.Redis, control: Control, words: tuple[str, ...]
) -> None:
    slow_down(client, to=1)
    client.hset(keys.RATE, "tat", 9_000_000_000_000_000)
    assert run(environ, "rate", *words).returncode == 0
    assert control.rate().back_at is None
    assert client.hget(keys.RATE, "tat") is None


def refusal(name: str, text: str) -> str:
    """What is said of a bad setting, without its name."""
    with pytest.raises(SettingsError) as raised:
        Settings.load({name: text})
    (problem,) = raised.value.problems
    return problem.removeprefix(f"{name}: ")


@pytest.mark.parametrize("text", ["0", "10001", "nan", "fast", "50/s", "1e-9", "½"])
def test_a_rate_is_refused_as_in_the_settings(
    environ: dict[str, str], client: redis.Redis, text: str
) -> None:
    done = run(environ, "rate", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'[RATE]': {refusal('SMSQ_RATE_PER_S', text)}\n" in done.stderr
    assert not client.exists(keys.RATE)


@pytest.mark.parametrize("text", ["0", "10001", "1.5", "many"])
def test_a_burst_is_refused_as_in_the_settings(
    environ: dict[str, str], client: redis.Redis, text: str
) -> None:
    done = run(environ, "rate", "50", "--burst", text)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"'--burst': {refusal('SMSQ_RATE_BURST', text)}\n" in done.stderr
    assert not client.exists(keys.RATE)


# Words after `rate`: what stderr must hold.
REFUSED = {
    "negative": (("-5",), "No such option"),
    "burst-alone": (("--burst", "5"), "pass the rate too: smsq rate RATE --burst 5"),
    "reset-and-rate": (("50", "--reset"), "--reset goes back to the settings"),
    "misspelt": (("--rset",), "No such option"),
    "two": (("50", "60"), "unexpected extra argument"),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_a_bad_rate_is_refused_and_nothing_is_set(
    environ: dict[str, str], client: redis.Redis, words: tuple[str, ...], told: str
) -> None:
    done = run(environ, "rate", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert not client.exists(keys.RATE)
