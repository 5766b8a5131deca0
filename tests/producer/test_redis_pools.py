"""Connections that are kept ready: each answer is its question's, whatever interrupts or forks."""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from types import FrameType
from typing import Any

import pytest
import redis

from harness.backend import run
from harness.faulty_line import freezing
from smsq.connection import connect
from smsq.connection import run as run_act
from smsq.functions import Script
from smsq.redis_pools import KEPT_AT_MOST

ECHO = Script("return ARGV[1]")


@pytest.fixture
def own(environ: dict[str, str]) -> Iterator[redis.Redis]:
    """A client of the test's own."""
    with connect(environ["SMSQ_REDIS_URL"]) as client:
        yield client


def echo(client: redis.Redis, text: str) -> Any:
    return run_act(client, ECHO, [text])


def connections(client: redis.Redis) -> set[str]:
    """The ids of the server's clients, without the asking one."""
    found: Any = client.client_list()
    return {one["id"] for one in found} - {str(client.client_id())}


def test_one_connection_does_for_one_script_after_another(
    client: redis.Redis, own: redis.Redis
) -> None:
    before = connections(client)
    for n in range(20):
        assert echo(own, str(n)) == str(n)
    assert len(connections(client) - before) == 1


class Interrupted(BaseException):
    """As a signal's handler raises it, such as Celery's time limit of a host's task."""


def test_one_that_was_interrupted_leaves_its_answer_to_nobody() -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    with freezing() as server, connect(server.url) as client:
        assert echo(client, "first") == "first"
        kept = signal.signal(signal.SIGALRM, interrupt)
        server.freeze()
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(Interrupted):
                echo(client, "second")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, kept)
            server.thaw()
        assert [echo(client, text) for text in ("third", "fourth")] == ["third", "fourth"]


TRACED = ("redis.connection", "redis._parsers", "smsq.connection", "smsq.redis_")


@contextmanager
def interrupted_at(step: int) -> Iterator[list[str]]:
    """Raise Interrupted at one of the steps, which are lines of TRACED; list those."""
    taken: list[str] = []
    before = sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        name = str(frame.f_globals.get("__name__"))
        # A line is also where a `with` lets go of the pool's lock, which no signal interrupts.
        in_pool = name == "redis.connection" and "Pool" in frame.f_code.co_qualname
        if (
            in_pool
            or not name.startswith(TRACED)
            or frame.f_code.co_name in {"__init__", "__del__"}
        ):
            return None
        if event == "line":
            taken.append(f"{name}:{frame.f_lineno}")
            if len(taken) == step:
                raise Interrupted
        return trace

    sys.settrace(trace)
    try:
        yield taken
    finally:
        sys.settrace(before)


# A connection that was in nobody's hands just then is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "kept"])
def test_wherever_it_was_interrupted_the_next_have_their_own_answers(
    environ: dict[str, str], is_new: bool
) -> None:
    """Also while it connects, and in between of what redis-py itself guards."""
    for step in count(1):
        with connect(environ["SMSQ_REDIS_URL"]) as own:
            if not is_new:
                echo(own, "first")
            with suppress(Interrupted), interrupted_at(step) as taken:
                echo(own, "second")
            assert [echo(own, text) for text in ("third", "fourth")] == ["third", "fourth"], taken
        if len(taken) < step:
            break
    assert step > 50
    gc.collect()


def test_one_that_the_server_has_closed_costs_a_try_and_no_error(
    client: redis.Redis, own: redis.Redis
) -> None:
    before = connections(client)
    echo(own, "first")
    for one in connections(client) - before:
        client.client_kill_filter(_id=one)
    assert echo(own, "second") == "second"


def test_many_threads_have_their_own_answers_and_leave_a_bounded_number_of_connections(
    own: redis.Redis,
) -> None:
    threads = KEPT_AT_MOST + 20
    together = threading.Barrier(threads, timeout=30)

    def work(n: int) -> None:
        together.wait()
        for k in range(30):
            assert echo(own, f"{n}-{k}") == f"{n}-{k}"

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    kept: Any = own.connection_pool
    assert len(kept._kept) <= KEPT_AT_MOST
    # Commands of other kinds have the rest.
    assert own.ping()


def test_closing_the_client_closes_what_is_kept(client: redis.Redis, own: redis.Redis) -> None:
    before = connections(client)
    echo(own, "first")
    own.close()
    assert connections(client) <= before
    assert echo(own, "again") == "again"


def test_a_forked_process_has_connections_and_envelopes_of_its_own(
    client: redis.Redis, environ: dict[str, str]
) -> None:
    code = """
        import os, smsq
        parent, ids = os.getpid(), []
        for _ in range(3):
            ids.append(smsq.send_sms.delay("13800138000", "SMS_1001").id)
        child = os.fork()
        for _ in range(50):
            assert smsq.status(smsq.send_sms.delay("13800138000", "SMS_1001").id).state == "queued"
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print(parent, child)
    """
    pids = run(code, environ).split()
    found = [json.loads(item) for item in client.lrange("sms.notice", 0, -1)]
    origins = [message["headers"]["origin"].partition("@")[0] for message in found]
    assert len(found) == 103
    assert [origins.count(f"gen{pid}") for pid in pids] == [53, 50]


def test_a_childs_pools_are_unlocked_those_to_sentinels_too() -> None:
    client: Any = connect("redis+sentinel://127.0.0.1:1/service/0")
    pool = client.connection_pool
    pools = [pool, *(one.connection_pool for one in pool.sentinel_manager.sentinels)]

    def take() -> None:
        for one in pools:
            one._lock.acquire()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert [one._lock.acquire(blocking=False) for one in pools] == [False, False]
    pool.unlock()
    assert [one._lock.acquire(blocking=False) for one in pools] == [True, True]
