"""Admit, call, record, against a real server and a real ledger, with no Celery in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import redis

from smsq import keys
from smsq.contract import parse
from smsq.enqueue import Entrance
from smsq_worker.delivery import Backoff
from smsq_worker.local.ports import free_port
from smsq_worker.runtime import Runtime
from smsq_worker.settings import Settings
from support import VendorServer, known

PHONE = "13800138000"


@pytest.fixture
def build(environ: dict[str, str], client: redis.Redis) -> Iterator[Callable[[str], Runtime]]:
    runtimes: list[Runtime] = []

    def build(url: str) -> Runtime:
        quick = {"SMSQ_GATEWAY_URL": url, "SMSQ_CONNECT_TIMEOUT_S": "1"}
        runtimes.append(Runtime.build(Settings.load(environ | quick)))
        return runtimes[-1]

    yield build
    for runtime in runtimes:
        runtime.close()


def enter(runtime: Runtime) -> None:
    message = parse((PHONE, "SMS_1001", "482913"), {})
    Entrance(runtime.client, runtime.settings).enter("m1", message)


def waits_s(client: redis.Redis) -> float:
    seconds, _ = client.time()
    due = client.zscore(keys.TIMERS, "m1")
    assert due is not None
    return due / 1000 - seconds


def wake(client: redis.Redis, runtime: Runtime) -> None:
    client.zadd(keys.TIMERS, {"m1": 0}, xx=True)
    assert runtime.ledger.claim(resend_wait_s=1, empty=[]).wake


@pytest.fixture
def busy() -> Iterator[str]:
    """A gateway that asks to come back in ten minutes."""

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.send_header("Retry-After", "600")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Busy)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_retry_after_is_honoured(
    build: Callable[[str], Runtime], client: redis.Redis, busy: str
) -> None:
    runtime = build(busy)
    enter(runtime)
    assert runtime.delivery.deliver("m1", (), {}) == "deferred"
    assert 595 < waits_s(client) <= 601


def test_a_gateway_that_is_down_costs_nothing_but_time(
    build: Callable[[str], Runtime], client: redis.Redis
) -> None:
    down = build(f"http://127.0.0.1:{free_port()}/")
    enter(down)
    for _ in range(12):
        assert down.delivery.deliver("m1", (), {}) == "deferred"
        wake(client, down)
    with VendorServer() as vendor:
        up = build(vendor.url)
        assert up.delivery.deliver("m1", (), {}) == "accepted"
        assert len(vendor.calls) == 1
    assert known("m1").attempts[-1].n == 13
    assert up.ledger.counters().get("possible_duplicates", 0) == 0


def test_a_wake_up_that_comes_twice_sends_once(build: Callable[[str], Runtime]) -> None:
    with VendorServer() as vendor:
        runtime = build(vendor.url)
        enter(runtime)
        assert runtime.delivery.deliver("m1", (), {}) == "accepted"
        assert runtime.delivery.deliver("m1", (), {}) == "copy accepted"
        assert len(vendor.calls) == 1


def test_a_wake_up_of_nothing_sends_nothing(build: Callable[[str], Runtime]) -> None:
    runtime = build(f"http://127.0.0.1:{free_port()}/")
    assert runtime.delivery.deliver("nobody", (), {}) == "unknown"
    assert runtime.ledger.counters() == {}


def test_the_backoff_doubles_up_to_its_bound_with_jitter() -> None:
    backoff = Backoff(first_s=2, max_s=300)
    for attempt, full in [(1, 2), (2, 4), (5, 32), (8, 256), (9, 300), (50, 300), (10_000, 300)]:
        waits = {backoff.wait_s(attempt) for _ in range(50)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 1
