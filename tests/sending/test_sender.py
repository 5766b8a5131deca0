"""Admit, call, record, against a real server and a real ledger, with no Celery in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
import redis

from harness.http_server import HttpServer, Response
from harness.vendor_server import VendorServer, accepted, refused
from harness.waiting import known
from harness.wakeups import Source, send
from smsq import keys
from smsq.contract import Lane, parse
from smsq.ledger_writer import LedgerWriter
from smsq_worker.config.settings import Settings
from smsq_worker.domain.backoff import Backoff
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger.admin import BREAKER, Control
from smsq_worker.runtime import Runtime
from smsq_worker.sending.consumer_gate import RequeueLater
from smsq_worker.sending.wakeup import WakeUp

PHONE = "13800138000"
NO_BREAKER = {"SMSQ_BREAKER": ""}
AT_ONCE = {"SMSQ_BREAKER": "1/10/60"}
"""One failed call is an outage."""


class Build(Protocol):
    def __call__(self, url: str, **environ: str) -> Runtime: ...


@pytest.fixture
def build(environ: dict[str, str], client: redis.Redis, tmp_path: Path) -> Iterator[Build]:
    runtimes: list[Runtime] = []

    def build(url: str, **own: str) -> Runtime:
        quick = {"SMSQ_GATEWAY_URL": url, "SMSQ_CONNECT_TIMEOUT_S": "1", "SMSQ_HOME": str(tmp_path)}
        runtimes.append(Runtime(Settings.load(environ | quick | own)))
        return runtimes[-1]

    yield build
    for runtime in runtimes:
        runtime.close()


def enter(runtime: Runtime, message_id: str = "m1") -> None:
    message = parse((PHONE, "SMS_1001", "482913"), {})
    LedgerWriter(runtime.client, runtime.settings).enter(message_id, message)


def deliver(runtime: Runtime, message_id: str = "m1") -> str:
    return send(runtime, message_id, Lane.NOTICE)


def control(runtime: Runtime) -> Control:
    return Control(runtime.client, runtime.settings.rules)


def paused(runtime: Runtime) -> list[str]:
    return [pause.scope for pause in control(runtime).pauses()]


def is_slowed_down(runtime: Runtime) -> bool:
    rate = control(runtime).rate()
    # It comes back step by step, within 50 s.
    assert rate.now == rate.limit or rate.limit / 2 <= rate.now < rate.limit
    return rate.now < rate.limit


def waits_s(client: redis.Redis) -> float:
    seconds, _ = client.time()
    due = client.zscore(keys.TIMERS, "m1")
    assert due is not None
    return due / 1000 - seconds


def wake(client: redis.Redis, runtime: Runtime) -> None:
    client.zadd(keys.TIMERS, {"m1": 0}, xx=True)
    assert runtime.ledger.claim(resend_wait_s=1, empty=[]).wake


class Busy(HttpServer):
    """A gateway that asks to come back in ten minutes."""

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        return 503, {"Retry-After": "600"}, b""


@pytest.fixture
def busy() -> Iterator[str]:
    with Busy() as server:
        yield f"{server.origin}/"


def test_retry_after_is_honoured(build: Build, client: redis.Redis, busy: str) -> None:
    runtime = build(busy)
    enter(runtime)
    assert deliver(runtime) == "deferred"
    assert 595 < waits_s(client) <= 601


def test_a_gateway_that_is_down_costs_nothing_but_time(build: Build, client: redis.Redis) -> None:
    down = build(f"http://127.0.0.1:{free_port()}/", **NO_BREAKER)
    enter(down)
    for _ in range(12):
        assert deliver(down) == "deferred"
        wake(client, down)
    with VendorServer() as vendor:
        up = build(vendor.url, **NO_BREAKER)
        assert deliver(up) == "accepted"
        assert len(vendor.calls) == 1
    assert known("m1").attempts[-1].n == 13
    assert up.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_wake_up_that_comes_twice_sends_once(build: Build) -> None:
    with VendorServer() as vendor:
        runtime = build(vendor.url)
        enter(runtime)
        assert deliver(runtime) == "accepted"
        assert deliver(runtime) == "copy accepted"
        assert len(vendor.calls) == 1


def test_a_wake_up_of_nothing_sends_nothing(build: Build) -> None:
    runtime = build(f"http://127.0.0.1:{free_port()}/")
    assert deliver(runtime, "nobody") == "unknown"
    assert runtime.ledger.counters() == {}


# What a call says of the gateway as it is now

Answer = Callable[[str], tuple[int, dict[str, object]]]


def status(code: int) -> Answer:
    return lambda mid: (code, {})


@pytest.mark.parametrize(
    ("answer", "state", "slowed", "outage"),
    [
        pytest.param(accepted, "accepted", False, False, id="accepted"),
        pytest.param(refused, "failed", False, False, id="refused"),
        pytest.param(status(404), "failed", False, False, id="404"),
        pytest.param(status(429), "deferred", True, False, id="429"),
        pytest.param(status(503), "deferred", True, True, id="503"),
        pytest.param(status(408), "deferred", False, True, id="408"),
        # An outage that leaves doubts halves the rate, too.
        pytest.param(status(500), "deferred", True, True, id="500"),
        pytest.param(status(200), "deferred", True, True, id="unreadable"),
    ],
)
def test_what_a_call_says_of_the_gateway_reaches_the_ledger(
    build: Build, answer: Answer, state: str, slowed: bool, outage: bool
) -> None:
    with VendorServer() as vendor:
        vendor.answer = answer
        runtime = build(vendor.url, **AT_ONCE)
        enter(runtime)
        assert deliver(runtime) == state
    assert is_slowed_down(runtime) == slowed
    assert paused(runtime) == [BREAKER] * outage


def test_no_connection_is_an_outage_and_says_nothing_of_the_rate(build: Build) -> None:
    runtime = build(f"http://127.0.0.1:{free_port()}/", **AT_ONCE)
    enter(runtime)
    assert deliver(runtime) == "deferred"
    assert paused(runtime) == [BREAKER]
    assert not is_slowed_down(runtime)


def test_a_pause_gives_the_wake_up_back_and_costs_the_message_nothing(build: Build) -> None:
    with VendorServer() as vendor:
        vendor.answer = status(503)
        runtime = build(vendor.url, **AT_ONCE)
        for message_id in ("m1", "m2"):
            enter(runtime, message_id)
        deliver(runtime)
        with pytest.raises(RequeueLater):
            deliver(runtime, "m2")
        assert len(vendor.calls) == 1
        assert (known("m2").state, known("m2").attempts) == ("queued", ())

        vendor.answer = accepted
        assert control(runtime).resume(BREAKER, "it is back")
        assert deliver(runtime, "m2") == "accepted"


def test_who_waits_for_its_turn_in_a_worker_that_stops_is_given_back(build: Build) -> None:
    with VendorServer() as vendor:
        one_a_day = {"SMSQ_RATE_PER_S": "0.001", "SMSQ_RATE_BURST": "1"}
        runtime = build(vendor.url, **one_a_day)
        for message_id in ("m1", "m2"):
            enter(runtime, message_id)
        assert deliver(runtime) == "accepted"
        source = Source()
        runtime.sender.take(WakeUp(Lane.NOTICE, ["m2"], source))
        runtime.sender.stop()
        assert source.came.get(timeout=60) is None
        with pytest.raises(RequeueLater):
            deliver(runtime, "m2")
        assert len(vendor.calls) == 1
    assert (known("m2").state, known("m2").attempts) == ("queued", ())


def test_what_a_call_said_of_the_gateway_is_old_when_it_comes_from_the_spool(
    build: Build, client: redis.Redis
) -> None:
    def refuse_writes(mid: str) -> None:
        client.config_set("min-replicas-to-write", 1)

    with VendorServer() as vendor:
        vendor.answer = status(503)
        vendor.before_answer = refuse_writes
        runtime = build(vendor.url, **AT_ONCE)
        enter(runtime)
        try:
            assert deliver(runtime) == "not recorded yet"
        finally:
            client.config_set("min-replicas-to-write", 0)
    assert known("m1").state == "sending"
    runtime.result_spool.replay()
    assert (known("m1").state, known("m1").attempts[0].detail) == ("deferred", "http 503")
    assert paused(runtime) == []
    assert not is_slowed_down(runtime)


def test_a_call_that_is_abandoned_says_nothing_of_the_gateway(build: Build) -> None:
    seen: list[object] = []
    with VendorServer() as vendor:
        runtime = build(vendor.url, **AT_ONCE)

        def give_up(mid: str) -> None:
            runtime.sender.abandon()
            seen.extend([known("m1").state, paused(runtime), is_slowed_down(runtime)])

        vendor.before_answer = give_up
        enter(runtime)
        assert deliver(runtime) == "accepted"
    assert seen == ["deferred", [], False]


# Backoff


def test_the_backoff_doubles_up_to_its_bound_with_jitter() -> None:
    backoff = Backoff(first_s=2, max_s=300)
    for attempt, full in [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (50, 300), (10_000, 300)]:
        waits = {backoff.wait_s(attempt) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 1
