"""The hours in which lane bulk is sent, in Asia/Shanghai. The server's time says what is now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import redis

from harness.scene import Scene
from smsq_worker.config.settings import Settings
from smsq_worker.domain.limits import DAY_MIN, Hours

SHANGHAI = ZoneInfo("Asia/Shanghai")
MINUTE = 60_000

# A scene whose bulk hours begin and end so many minutes from now.
Build = Callable[[int, int], Scene]


def minute_of_day(now_ms: int) -> int:
    """Give the minute of the day in Shanghai, which is 8 h ahead of UTC all year."""
    return (now_ms // MINUTE + 8 * 60) % DAY_MIN


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    def make(start: int, end: int) -> Scene:
        scene = Scene(client, settings)
        minute = minute_of_day(scene.now_ms())
        hours = Hours((minute + start) % DAY_MIN, (minute + end) % DAY_MIN)
        return Scene(client, settings, bulk_hours=hours)

    return make


def test_shanghai_is_where_the_tests_think_it_is() -> None:
    noon = datetime(2025, 7, 1, 12, tzinfo=SHANGHAI)
    assert minute_of_day(round(noon.timestamp() * 1000)) == 12 * 60


@pytest.mark.parametrize(
    ("start", "end"),
    [(-60, 60), (-5, 5), (-700, 10), (-10, 700), (-10, -20)],
)
def test_bulk_goes_within_its_hours(build: Build, start: int, end: int) -> None:
    scene = build(start, end)
    scene.enter(lane="bulk")
    scene.go()


@pytest.mark.parametrize(
    ("start", "end"),
    [(60, 120), (5, 10), (10, -10), (700, -10), (30, -700), (-20, -10)],
)
def test_bulk_waits_for_the_opening(build: Build, start: int, end: int) -> None:
    scene = build(start, end)
    scene.enter(lane="bulk")
    before = scene.now_ms()
    assert scene.stays() == "deferred"
    wait = start % DAY_MIN * MINUTE
    opening = before - before % MINUTE + wait
    # Rounding may put it a millisecond late; and the minute may have changed since `build`.
    assert -MINUTE <= scene.timer() - opening <= 1
    assert scene.timer() % MINUTE <= 1
    assert scene.used_up() == (None, None)
    assert minute_of_day(round(scene.timer())) == (scene.rules.bulk_hours or Hours(0, 0)).start


@pytest.mark.parametrize("now_is", [0, 1, 30, 720, 1438, 1439])
@pytest.mark.parametrize("length", [1, 60, 1439])
def test_hours_over_midnight_are_as_long_as_any(
    client: redis.Redis, settings: Settings, now_is: int, length: int
) -> None:
    """Now is so many minutes after the opening, wherever midnight is."""
    scene = Scene(client, settings)
    for n in range(1000):
        minute = minute_of_day(scene.now_ms())
        start = (minute - now_is) % DAY_MIN
        hours = Hours(start, (start + length) % DAY_MIN)
        at_hours = Scene(client, settings, bulk_hours=hours)
        at_hours.enter(f"m{n}", lane="bulk")
        at_hours.admit(f"m{n}")
        now = datetime.fromtimestamp(scene.now_ms() / 1000, UTC)
        if minute == minute_of_day(scene.now_ms()):
            break
    assert at_hours.state(f"m{n}") == ("sending" if now_is < length else "deferred")
    assert hours.include(now) == (now_is < length)


def test_a_message_whose_ttl_ends_before_the_opening_expires_then(build: Build) -> None:
    scene = build(60, 120)
    scene.enter(lane="bulk", ttl_s=600)
    assert scene.stays() == "deferred"
    assert scene.timer() == int(str(scene.field("m1", "expires")))
    scene.run_out_of_ttl()
    assert scene.state() == "expired"


def test_what_waited_goes_when_the_hours_have_begun(build: Build) -> None:
    closed = build(60, 120)
    closed.enter(lane="bulk")
    closed.stays()
    assert closed.run_out() == ["m1"]
    build(-60, 60).go()


@pytest.mark.parametrize("lane", ["otp", "notice"])
def test_the_hours_are_those_of_bulk_alone(build: Build, lane: str) -> None:
    scene = build(60, 120)
    scene.enter(lane=lane)
    scene.go()


def test_without_hours_bulk_goes_always(client: redis.Redis, settings: Settings) -> None:
    scene = Scene(client, settings)
    scene.enter(lane="bulk")
    scene.go()
