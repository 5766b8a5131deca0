"""What is due: in the order of the lanes, in slices, and published in batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import redis

import smsq
from harness.machine import machine
from harness.scene import LONG_AGO, Scene
from harness.waiting import eventually, known
from smsq import keys
from smsq.contract import Lane
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.wakeups import ids_of
from smsq_worker.ledger.types import CLAIM_AT_MOST
from smsq_worker.runtime import Runtime
from smsq_worker.scheduler.scheduler import POLL_S, REST_S, SLICE_S, Scheduler
from smsq_worker.sending.consumer_gate import ConsumerGate

MANY = CLAIM_AT_MOST + 50


@pytest.fixture
def scene(client: redis.Redis, settings: Settings) -> Scene:
    scene = Scene(client, settings)
    scene.claim()  # The first looks through all timers, as the clock may have stepped.
    return scene


def in_an_hour() -> float:
    return time.time() + 3600


def campaign(scene: Scene, count: int = MANY) -> list[str]:
    """Schedule so many messages of lane bulk for a moment that has come."""
    names = [f"bulk-{n}" for n in range(count)]
    for n, name in enumerate(names):
        scene.enter(name, lane="bulk", phone=f"139{n:08}", send_at=in_an_hour())
    scene.client.zadd(keys.TIMERS, dict.fromkeys(names, LONG_AGO))
    return names


def comes_due(scene: Scene, name: str) -> None:
    """Let a timer run out, after those of the campaign."""
    for timers in (keys.TIMERS, *map(f"{keys.TIMERS}:{{}}".format, ("leases", "otp", "notice"))):
        scene.client.zadd(timers, {name: LONG_AGO + 1}, xx=True)


def scheduled(scene: Scene, lane: str) -> str:
    scene.enter(lane, lane=lane, send_at=in_an_hour())
    return lane


def tried_again(scene: Scene, lane: str) -> str:
    scene.enter(lane, lane=lane)
    scene.go(lane)
    scene.record(lane, Outcome.NOT_SENT)
    return lane


@pytest.mark.parametrize("come", [scheduled, tried_again])
def test_what_is_due_of_earlier_lanes_does_not_wait_behind_a_campaign(
    scene: Scene, come: Callable[[Scene, str], str]
) -> None:
    campaign(scene)
    for lane in ("notice", "otp"):
        comes_due(scene, come(scene, lane))
    woken = scene.woken()
    assert woken[:2] == ["otp", "notice"]
    assert len(woken) == CLAIM_AT_MOST
    assert scene.client.zcard(f"{keys.TIMERS}:otp") == 0


@pytest.mark.parametrize("lane", ["otp", "notice", "bulk"])
def test_a_lease_that_ran_out_does_not_wait_behind_a_campaign(scene: Scene, lane: str) -> None:
    campaign(scene)
    scene.enter("m1", lane=lane)
    scene.go("m1")
    comes_due(scene, "m1")
    scene.claim()
    assert scene.state("m1") == "deferred"
    assert scene.client.zcard(f"{keys.TIMERS}:leases") == 0


def test_where_earlier_lanes_took_more_than_a_slice_none_reads_all_that_is_due(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIMIT takes less than 0 for all, of which there may be a million."""
    monkeypatch.setattr("smsq_worker.ledger.timers.CLAIM_AT_MOST", 1)
    scene.enter("m1", lane="otp")
    scene.go("m1")
    comes_due(scene, "m1")  # To end a lease counts as much as four wake-ups.
    with scene.client.monitor() as monitor:
        scene.claim()
        scene.client.echo("done")
        commands = (one["command"].split() for one in monitor.listen())
        seen = [*takewhile(lambda one: one[0] != "ECHO", commands)]
    reads = [one for one in seen if one[0] == "ZRANGEBYSCORE" and "LIMIT" in one]
    assert reads
    assert all(int(one[-1]) > 0 for one in reads)


def test_a_campaign_comes_in_slices_that_leave_room_and_otps_come_between(scene: Scene) -> None:
    names = campaign(scene)
    assert scene.woken() == sorted(names)[:CLAIM_AT_MOST]
    scene.client.hset("smsq:clock", "slice", scene.now_ms() + 900)
    comes_due(scene, scheduled(scene, "otp"))
    due = scene.claim()
    assert [name for name, _ in due.wake] == ["otp"]
    assert (due.next_s, due.more) == (0, False)
    scene.client.hset("smsq:clock", "slice", LONG_AGO)
    assert scene.woken() == sorted(names)[CLAIM_AT_MOST:]


def test_what_an_older_release_left_in_an_index_is_put_right(scene: Scene) -> None:
    """Older releases know one line of timers alone."""
    leases, otps = f"{keys.TIMERS}:leases", f"{keys.TIMERS}:otp"
    scene.call("recorded", Outcome.ACCEPTED)
    scene.enter("woken", lane="otp")
    scene.enter("deferred", lane="otp", send_at=in_an_hour())
    scene.client.zadd(leases, {"recorded": LONG_AGO, "gone": LONG_AGO})
    scene.client.zadd(otps, {"woken": LONG_AGO, "deferred": LONG_AGO})
    assert scene.woken() == []
    assert scene.client.zcard(leases) == 0
    assert scene.client.zcard(otps) == 0
    assert [scene.state(one) for one in ("recorded", "woken", "deferred")] == [
        "accepted",
        "queued",
        "deferred",
    ]


class Queues:
    """The broker's queues as a test wants them."""

    wakeups = ""

    def __init__(self, oldest: dict[Lane, list[str]] | None = None) -> None:
        self.published: list[tuple[Lane, list[str]]] = []
        self._oldest = oldest or {}

    def oldest(self) -> dict[Lane, list[str]]:
        return self._oldest

    def is_full(self) -> bool:
        return False

    def waiting(self, queue: str) -> int:
        return 0

    def publish_messages(self, ids: Any, lane: Lane) -> None:
        self.published.append((lane, list(ids)))

    def publish_report(self, mid: str, stat: str) -> None:
        raise AssertionError

    def publish_callback(self, name: str) -> None:
        raise AssertionError


@pytest.fixture
def clock_of(settings: Settings) -> Callable[[Queues], Scheduler]:
    runtime = Runtime(settings)

    def make(queues: Queues) -> Scheduler:
        parts = (runtime.ledger, runtime.callbacks, runtime.backoff, runtime.result_spool)
        return Scheduler(*parts, gate=ConsumerGate(), queues=queues)

    return make


def test_each_lane_is_published_at_once_in_the_lanes_order(
    scene: Scene, clock_of: Callable[[Queues], Scheduler]
) -> None:
    campaign(scene, 3)
    for lane in ("notice", "otp"):
        comes_due(scene, scheduled(scene, lane))
    queues = Queues()
    clock_of(queues).tick()
    assert [(lane, sorted(ids)) for lane, ids in queues.published] == [
        (Lane.OTP, ["otp"]),
        (Lane.NOTICE, ["notice"]),
        (Lane.BULK, ["bulk-0", "bulk-1", "bulk-2"]),
    ]


def test_timers_close_to_each_other_are_no_ticks_of_their_own(
    scene: Scene, clock_of: Callable[[Queues], Scheduler]
) -> None:
    clock = clock_of(Queues())
    assert clock.tick() == POLL_S
    campaign(scene)
    assert clock.tick() == SLICE_S
    scene.client.hset("smsq:clock", "slice", scene.now_ms() + 900)
    assert clock.tick() == REST_S


def ids_in(client: redis.Redis, queue: str) -> list[int]:
    """Count the messages of each wake-up in a queue."""
    return [len(ids_of(item)) for item in client.lrange(queue, 0, -1)]


def test_a_worker_publishes_what_comes_due_in_batches_and_nothing_twice(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    with machine(environ, tmp_path) as here:
        ids: list[str] = []
        rows = (
            {"phone": f"139{n:08}", "template": "SMS_1", "send_at": in_an_hour()}
            for n in range(450)
        )
        smsq.send_many(rows, on_batch=ids.extend)
        client.zadd(keys.TIMERS, dict.fromkeys(ids, LONG_AGO))
        # It takes nothing of lane bulk.
        here.start_worker("-Q", "sms.otp")
        eventually(lambda: sum(ids_in(client, "sms.bulk")) == len(ids))
        assert client.llen("sms.bulk") <= 10
        here.start_worker()
        eventually(lambda: all(known(one).state == "accepted" for one in ids))
        assert sorted(here.vendor.phones()) == [f"139{n:08}" for n in range(450)]
