"""The one rate of all workers: turns, lanes, the window, and what the gateway allows."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet

from harness.scene import DELIVRD, PHONE, Scene, stat
from harness.senders import sender
from harness.waiting import eventually
from harness.wakeups import Source
from smsq import keys
from smsq.connection import connect
from smsq.contract import Lane
from smsq.errors import LedgerUnavailable
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import Admitted, Ledger, Rejected, RetryLater
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.send_times import set_switch_interval
from smsq_worker.sending.waiting import MAX_ASKS, Waiting
from smsq_worker.sending.wakeup import WakeUp

SECOND = 1_000_000
HARDLY_EVER = 0.001
"""A rate at which no second turn comes while a test runs."""
TOO_FAST = stat("MO:0008", "transient", 60, slow_down=True)

Build = Callable[..., Scene]


@pytest.fixture
def build(client: redis.Redis, settings: Settings) -> Build:
    def make(rate: float, burst: int = 1, **rules: Any) -> Scene:
        return Scene(client, settings, rate_per_s=rate, rate_burst=burst, **rules)

    return make


def ask(scene: Scene, lane: Lane, ahead_us: int) -> Admitted | RetryLater | Rejected:
    """Ask for a turn while the next free one is so far ahead.

    Ask anew where the machine took so long over it that the turn was nearer.
    """
    for n in range(1000):
        name = f"{lane}-{n}"
        scene.enter(name, lane=str(lane), phone=f"138{n:08}")
        before = scene.now_us()
        scene.client.hset(keys.RATE, "tat", before + ahead_us)
        answer = scene.admit(name)
        if scene.now_us() - before < 20_000:
            return answer
    raise AssertionError("the machine is too slow")


# Turns


@pytest.mark.parametrize(("since", "share"), [("now", 0.95), ("long ago", 1)])
def test_turns_are_one_gap_apart(build: Build, since: str, share: float) -> None:
    rate = 50
    scene = build(rate)
    if since == "long ago":
        scene.client.hset(keys.RATE, "tat", scene.now_us())
    tats: list[int] = []
    certain = 0
    for n in range(20):
        scene.enter(f"m{n}", lane="otp", phone=f"138{n:08}")
        scene.admit(f"m{n}")
        tats.append(int(str(scene.client.hget(keys.RATE, "tat"))))
        if n and tats[-2] >= scene.now_us():
            # It was booked while there was a queue, so without any slack between the turns.
            assert tats[-1] - tats[-2] == pytest.approx(SECOND / rate / share, rel=0.02)
            certain += 1
        elif n:
            assert tats[-1] - tats[-2] >= SECOND / rate
    assert certain


def test_a_booked_turn_is_as_far_ahead_as_the_answer_says(build: Build) -> None:
    scene = build(10)
    answer = ask(scene, Lane.OTP, 700_000)
    assert isinstance(answer, RetryLater)
    assert answer.turn
    assert 0.665 <= answer.seconds <= 0.685


def test_a_burst_goes_at_once_and_the_next_waits(build: Build) -> None:
    scene = build(HARDLY_EVER, burst=3)
    for n in range(4):
        scene.enter(f"m{n}")
    assert [scene.go(f"m{n}") for n in range(3)] == [1, 1, 1]
    answer = scene.admit("m3")
    assert isinstance(answer, RetryLater)
    assert not answer.turn
    assert answer.seconds > 900


def test_waiting_uses_up_nothing(build: Build) -> None:
    scene = build(HARDLY_EVER)
    scene.enter("m1")
    scene.go("m1")
    scene.enter("m2")
    before = scene.client.hgetall(keys.message("m2")), scene.client.hgetall(keys.RATE)
    assert isinstance(scene.admit("m2"), RetryLater)
    assert (scene.client.hgetall(keys.message("m2")), scene.client.hgetall(keys.RATE)) == before


# Lanes


@pytest.mark.parametrize(
    ("lane", "ahead_us", "booked"),
    [
        (Lane.BULK, 70_000, True),
        (Lane.BULK, 150_000, False),
        (Lane.NOTICE, 220_000, True),
        (Lane.NOTICE, 300_000, False),
        (Lane.OTP, 970_000, True),
        (Lane.OTP, 1_050_000, False),
    ],
)
def test_each_lane_books_so_far_ahead_and_no_further(
    build: Build, lane: Lane, ahead_us: int, booked: bool
) -> None:
    answer = ask(build(10), lane, ahead_us)
    assert isinstance(answer, RetryLater)
    assert bool(answer.turn) is booked
    assert answer.seconds <= ahead_us / SECOND


def test_an_otp_is_booked_before_bulk_that_came_earlier(build: Build) -> None:
    scene = build(0.1)
    scene.enter("bulk", lane="bulk")
    earlier = ask(scene, Lane.BULK, 500_000)
    assert isinstance(earlier, RetryLater)
    assert not earlier.turn
    otp = ask(scene, Lane.OTP, 500_000)
    assert isinstance(otp, RetryLater)
    assert otp.turn
    behind = scene.admit("bulk")
    assert isinstance(behind, RetryLater)
    assert not behind.turn
    assert behind.seconds > 5


# The window


def test_a_booked_turn_that_comes_late_waits_until_the_window_has_room(build: Build) -> None:
    scene = build(10)
    for n in range(1000):
        scene.enter(f"m{n}")
        now = scene.now_us()
        scene.calls_departed(*[now] * 11)
        answer = scene.admit(f"m{n}", booked=True)
        if scene.now_us() - now < SECOND / 2:
            break
    assert isinstance(answer, RetryLater)
    assert answer.turn
    assert 0.5 < answer.seconds <= 1.02
    scene.calls_departed(*[now] * 10, now - 2 * SECOND)
    assert isinstance(scene.admit(f"m{n}", booked=True), Admitted)


def test_what_is_remembered_of_calls_is_bounded(build: Build) -> None:
    scene = build(5000, burst=3)
    scene.calls_departed(*[scene.now_us() - 2 * SECOND] * 9000)
    scene.enter()
    scene.go()
    assert scene.client.zcard(keys.CALLS) == 5004


def test_no_second_sees_more_than_the_rate_and_the_burst(build: Build) -> None:
    """A property of the decisions, however late the workers come to make them."""
    rate, burst, workers = 100, 10, 8
    scene = build(rate, burst)
    names = [f"m{n}" for n in range(300)]
    lanes = list(Lane)
    for n, name in enumerate(names):
        scene.enter(name, lane=str(lanes[n % 3]), phone=f"138{n:08}")

    def work(share: list[str]) -> None:
        with connect(scene.settings.redis_url) as own:
            ledger = Ledger(own, scene.rules)
            for name in share:
                go = patiently(ledger, name)
                assert isinstance(go, Admitted)
                ledger.record(name, go.attempt, Outcome.ACCEPTED, detail="", mid=name)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [names[n::workers] for n in range(workers)]))
    at = sorted(int(str(scene.field(name, "1:at"))) for name in names)
    most = rate + burst
    assert all(later - earlier >= 1000 for earlier, later in zip(at, at[most:], strict=False))


def asked(ledger: Ledger, waiting: Waiting, free: int) -> list[tuple[str, Admitted | Rejected]]:
    """Ask for what is due, as a lane's thread does; give those that wait no longer."""
    asks = waiting.to_ask(free)
    return list(waiting.answered(asks, ledger.admit_many(asks)))


def patiently(ledger: Ledger, name: str) -> Admitted | Rejected:
    """Ask until a message waits no longer."""
    waiting = Waiting(Lane.OTP)
    waiting.add([name])
    while True:
        for _, answer in asked(ledger, waiting, 1):
            return answer
        time.sleep(max(0.0, waiting.next_at() - time.monotonic()))


# Set at run time


def test_a_new_rate_counts_for_the_next_question_of_every_worker(build: Build) -> None:
    scene, other = build(10_000, 10_000), build(10_000, 10_000)
    for name in ("m1", "m2", "m3", "m4", "m5"):
        scene.enter(name)
    scene.go("m1")
    scene.control.set_rate(HARDLY_EVER, 1)
    for worker in (scene, other):
        rate = worker.control.rate()
        assert (rate.limit, rate.burst, rate.by_operator) == (HARDLY_EVER, 1, True)
    scene.client.delete(keys.CALLS)  # a second passes
    scene.go("m2")
    assert isinstance(other.admit("m3"), RetryLater)
    scene.control.set_rate(10_000, 10_000)
    other.go("m3")
    scene.control.set_rate(HARDLY_EVER, 1)
    assert isinstance(other.admit("m4"), RetryLater)
    scene.control.reset_rate()
    scene.go("m5")
    assert not scene.control.rate().by_operator


def test_the_turns_of_a_low_rate_do_not_hold_back_a_higher_one(build: Build) -> None:
    scene = build(HARDLY_EVER)
    scene.enter("m1")
    scene.go("m1")
    scene.control.set_rate(10, 1)
    scene.enter("m2")
    answer = scene.admit("m2")
    assert isinstance(answer, Admitted) or answer.seconds < 2


def test_a_clock_that_was_set_back_stops_nothing(build: Build) -> None:
    scene = build(10)
    later = scene.now_us() + 3600 * SECOND
    scene.client.hset(keys.RATE, mapping={"tat": later, "slow": 5, "slow_at": later // 1000})
    scene.calls_departed(*[later] * 11)
    assert scene.control.rate().now == 5
    scene.enter()
    answers = [scene.admit()]

    def goes() -> bool:
        last = answers[-1]
        assert isinstance(last, RetryLater)
        assert last.seconds < 2
        answers.append(scene.ledger.admit("m1", turn=last.turn))
        return isinstance(answers[-1], Admitted)

    # What has departed counts all the same, for a second.
    eventually(goes)


# What the gateway allows


@pytest.fixture
def scene(build: Build) -> Scene:
    return build(100, 1000)


def slow_down(scene: Scene, name: str) -> None:
    scene.call(name, Outcome.NOT_SENT, detail="http 429", too_fast=True)


def recovering(scene: Scene, steps: int) -> float:
    """Let so many steps and a half pass since the last slow-down; give the rate."""
    at = scene.now_ms() - round((steps + 0.5) * 10_000)
    scene.client.hset(keys.RATE, "slow_at", at)
    return scene.control.rate().now


def test_the_rate_halves_when_the_gateway_wants_less_and_never_below_a_sixteenth(
    scene: Scene,
) -> None:
    assert scene.control.rate().now == 100
    seen = []
    for n in range(6):
        slow_down(scene, f"m{n}")
        seen.append(scene.control.rate().now)
    assert seen == [50, 25, 12.5, 6.25, 6.25, 6.25]
    assert scene.control.rate().limit == 100


def test_the_lower_rate_is_kept_by_every_worker(build: Build, scene: Scene) -> None:
    slow_down(scene, "m1")
    assert build(100, 1000).control.rate().now == 50
    assert scene.claim().rate == 50


def test_the_rate_comes_back_step_by_step(scene: Scene) -> None:
    slow_down(scene, "m1")
    seen = [recovering(scene, steps) for steps in range(7)]
    assert seen == [50, 60, 70, 80, 90, 100, 100]


def test_a_rate_on_its_way_back_is_halved_again(scene: Scene) -> None:
    slow_down(scene, "m1")
    assert recovering(scene, 3) == 80
    slow_down(scene, "m2")
    assert scene.control.rate().now == 40


def test_calls_begun_before_the_last_slow_down_do_not_slow_it_further(scene: Scene) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
        scene.go(name)
    for name in ("m1", "m2"):
        if name == "m2":
            scene.began_long_ago(name)
        scene.record(name, Outcome.NOT_SENT, detail="http 429", too_fast=True)
    assert scene.control.rate().now == 50


def test_a_report_of_flow_control_slows_down_once(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    for _ in range(3):
        scene.report("m1", TOO_FAST)
    assert scene.control.rate().now == 50
    assert scene.state("m1") == "deferred"


@pytest.mark.parametrize("back", [False, True])
def test_the_operators_new_rate_ends_it(scene: Scene, back: bool) -> None:
    slow_down(scene, "m1")
    if back:
        scene.control.reset_rate()
    else:
        scene.control.set_rate(80, 2)
    rate = scene.control.rate()
    assert (rate.limit, rate.now) == ((100, 100) if back else (80, 80))


def test_a_slow_down_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    slow_down(scene, "m1")
    scene.control.rate()
    scene.claim()
    assert caplog.messages == ["slowed down to 50 of 100 calls a second: http 429"]


# Those that wait


@pytest.fixture
def slow(build: Build) -> Scene:
    """Give a ledger whose next turn never comes; its messages m1 and m2 wait."""
    scene = build(HARDLY_EVER)
    scene.enter("first")
    scene.go("first")
    scene.enter("m1")
    scene.enter("m2")
    return scene


def test_a_message_goes_through(slow: Scene) -> None:
    slow.control.set_rate(10, 10)
    slow.client.delete(keys.CALLS)
    assert isinstance(patiently(slow.ledger, "m1"), Admitted)
    assert patiently(slow.ledger, "m1").why == "copy"  # type: ignore[union-attr]


def test_a_pause_gives_the_message_back_and_closes_the_queues(slow: Scene, tmp_path: Path) -> None:
    gate, source = ConsumerGate(), Source()
    with sender(slow, tmp_path, gate) as running:
        slow.control.pause("account", "by hand")
        running.take(WakeUp(Lane.NOTICE, ["m1"], source))
        assert source.came.get(timeout=60) is None
        assert gate.open_queues(["sms.notice", "sms.report"]) == ["sms.report"]
        slow.control.resume("account", "by hand")
        slow.control.set_rate(10, 10)
        slow.client.delete(keys.CALLS)
        running.take(WakeUp(Lane.NOTICE, ["m2"], source))
        assert source.came.get(timeout=60) == "deferred"
    assert (slow.field("m1", "n"), slow.field("m2", "n")) == (None, "1")


def test_a_message_that_waits_for_its_booked_turn_lets_others_of_its_lane_on(slow: Scene) -> None:
    # The window, and not the turn, is what it waits for, as after a booking.
    slow.client.hset(keys.RATE, "tat", 1)
    slow.calls_departed(slow.now_us())
    waiting = Waiting(Lane.OTP)
    waiting.add(["m1"])
    assert asked(slow.ledger, waiting, 3) == []
    waiting.add(["nobody"])
    assert asked(slow.ledger, waiting, 3) == [("nobody", Rejected("unknown", None))]
    slow.client.delete(keys.CALLS)
    ((name, answer),) = eventually(lambda: asked(slow.ledger, waiting, 3))
    assert (name, type(answer)) == ("m1", Admitted)
    assert not waiting


def test_no_more_are_asked_for_than_attempts_may_begin(scene: Scene) -> None:
    names = [scene.enter(f"m{n}") and f"m{n}" for n in range(40)]
    waiting = Waiting(Lane.OTP)
    waiting.add(names)
    assert asked(scene.ledger, waiting, 0) == []
    assert waiting.next_at() == math.inf, "it is woken up when an attempt ends"
    assert [name for name, _ in asked(scene.ledger, waiting, 3)] == names[:3]
    # In one act, which others have to wait for.
    assert [name for name, _ in asked(scene.ledger, waiting, 30)] == names[3 : 3 + MAX_ASKS]


def test_a_lane_whose_ledger_is_away_asks_for_nothing_for_a_while() -> None:
    waiting = Waiting(Lane.OTP)
    waiting.add(["m1", "m2"])
    assert waiting.to_ask(1) == [("m1", "")]
    list(waiting.answered([("m1", "")], [RetryLater(0, "slot")]))
    waiting.rest(60)
    assert waiting.to_ask(5) == []
    assert waiting.next_at() > time.monotonic() + 50


def test_reports_go_on_whatever_the_rate(slow: Scene) -> None:
    slow.record("first", Outcome.ACCEPTED)
    assert slow.report("first", DELIVRD) == "delivered"


def test_threads_take_turns_more_often_where_a_few_ms_can_be_told() -> None:
    before = sys.getswitchinterval()
    try:
        set_switch_interval(200)
        assert sys.getswitchinterval() == pytest.approx(0.001)
        set_switch_interval(1000)
        assert sys.getswitchinterval() == pytest.approx(0.005)
    finally:
        sys.setswitchinterval(before)


def test_a_wake_up_that_waits_long_is_said_to_be_in_hand(
    slow: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or it would be taken for lost, and published once more."""
    monkeypatch.setattr("smsq_worker.sending.waiting.IN_HAND_S", 0)
    names = ("m1", "m2")
    slow.client.zadd(keys.TIMERS, dict.fromkeys(names, 1))
    with sender(slow, tmp_path, ConsumerGate()) as running:
        running.take(WakeUp(Lane.NOTICE, names, Source(), is_batch=True))
        eventually(lambda: all(slow.timer(name) > slow.now_ms() for name in names))
    assert slow.state("m1") == "queued"


# What has been admitted is called


def test_what_is_admitted_before_a_pause_shows_is_given_to_be_called(
    scene: Scene, tmp_path: Path
) -> None:
    """A probe among the messages of a batch: one may go, and the next are told of the pause."""
    scene.control.pause("account", "for a test")
    pause = scene.stored_pause("account") | {"cause": "refusals", "permit": scene.now_ms()}
    scene.client.hset(keys.PAUSES, "account", json.dumps(pause))
    names = [scene.enter(name, lane="bulk") and name for name in ("m1", "m2", "m3")]
    gate, source = ConsumerGate(), Source()
    with sender(scene, tmp_path, gate) as running:
        running.take(WakeUp(Lane.BULK, names, source, is_batch=True))
        assert source.came.get(timeout=60) is None
    assert [scene.field(name, "n") for name in names] == ["1", None, None]
    assert [scene.state(name) for name in names] == ["deferred", "queued", "queued"]
    assert gate.open_queues(["sms.bulk"]) == []


def test_what_is_admitted_before_redis_fails_is_given_to_be_called(
    build: Build, environ: dict[str, str], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next message is to be encrypted first, and that fails."""
    plain = build(10_000, 10_000)
    plain.enter("plain")
    own = environ | {"SMSQ_PAYLOAD_KEYS": Fernet.generate_key().decode()}
    scene = Scene(client, Settings.load(own))
    scene.enter("sealed")

    def fails(*_: object) -> None:
        raise LedgerUnavailable("the connection was lost")

    monkeypatch.setattr(scene.ledger, "_encrypt", fails)
    (answer,) = scene.ledger.admit_many([("sealed", ""), ("plain", "")])
    assert isinstance(answer, Admitted)
    with pytest.raises(LedgerUnavailable):
        scene.ledger.admit_many([("plain", "")])
    assert (scene.state("sealed"), scene.state("plain")) == ("sending", "queued")


@pytest.mark.parametrize("payload", ["", "null", "[]", '["13800138000"]', "{", '["1", "2", "3"]'])
def test_a_payload_that_is_none_holds_up_nothing_of_its_batch(scene: Scene, payload: str) -> None:
    for name in ("m1", "m2"):
        scene.enter(name)
    scene.client.set(keys.payload("m1"), payload)
    unreadable, good = scene.ledger.admit_many([("m1", ""), ("m2", "")])
    assert isinstance(unreadable, Admitted)
    assert isinstance(good, Admitted)
    assert (unreadable.phone, good.phone) == ("", PHONE)
