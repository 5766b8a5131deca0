"""Hosts that fork after they have sent: each process has connections of its own, and leaves none.

Broker and ledger are two databases here, so that kombu's connections are forked, too. Threads are
in test_redis_pools.py and test_async.py.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from harness.waiting import eventually
from smsq.connection import connect

SHOP = '''
import asyncio, json, os
import celery, redis
import smsq
from smsq.app import app
from smsq import ledgers

MESSAGE = ("13800138000", "SMS_1001")

def asking():
    return (yield [("CLIENT", "ID")])

async def asend(count):
    numbers = set()
    for _ in range(count):
        await smsq.send_sms.adelay(*MESSAGE)
        numbers.update(await ledgers.ado(asking()))
    return numbers

def send(count=5):
    """Send, and return over which connections."""
    numbers = set()
    for _ in range(count):
        smsq.send_sms.delay(*MESSAGE)
        numbers.update(ledgers.do(asking()))
    with app.connection_for_write() as unused, app.producer_pool.acquire() as producer:
        broker = producer.channel.client.client_id()
    return {"pid": os.getpid(), "ledger": [*numbers], "broker": broker}

before = send()
loop = asyncio.new_event_loop()
before["ledger"] += loop.run_until_complete(asend(5))
sent = {**before, "before": True}

def work():
    found = send()
    found["ledger"] += asyncio.run(asend(5))
    return found

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([sent, work()]).encode()]

host = celery.Celery("shop", broker=os.environ["HOST_URL"])

@host.task
def answer():
    redis.Redis.from_url(os.environ["HOST_URL"]).rpush("answers", json.dumps([sent, work()]))
'''

FORKING = """
import asyncio, json, os, sys
import shop

child = os.fork()
if child:
    found = shop.send()
    # The loop that was there before goes on, over the connection that it had.
    found["ledger"] += shop.loop.run_until_complete(shop.asend(5))
    assert sorted(found["ledger"]) == sorted(shop.sent["ledger"]), (found, shop.sent)
    assert os.waitpid(child, 0)[1] == 0
    shop.loop.run_until_complete(shop.loop.shutdown_asyncgens())
    shop.loop.close()
else:
    print(json.dumps([shop.sent, shop.work()]), flush=True)
"""

LOCKING = """
import json, os, sys, threading
import shop
from smsq.app import app

locked = threading.Event()

def take_a_connection():
    with app.client.connection_pool._lock:  # As whoever takes or gives back one of redis-py's.
        locked.set()
        threading.Event().wait()

threading.Thread(target=take_a_connection, daemon=True).start()
locked.wait()
# As other threads that publish hold them.
held = [app.producer_pool.acquire(block=True) for _ in range(app.pool.limit)]
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps([shop.sent, shop.work()]), flush=True)
"""


FIRST_USE = """
import os, sys, threading
import smsq
import {module} as module

begun = threading.Event()
before = module.{name}

def unfinished(*_, **__):
    begun.set()
    threading.Event().wait()

def send():
    smsq.send_sms.delay("13800138000", "SMS_1001")

module.{name} = unfinished
threading.Thread(target=send, daemon=True).start()
begun.wait()
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
module.{name} = before
send()
os._exit(0)
"""


@pytest.fixture
def shop(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a host's processes."""
    (tmp_path / "shop.py").write_text(SHOP)
    server = environ["SMSQ_REDIS_URL"].removesuffix("/0")
    return environ | {
        "SMSQ_BROKER_URL": f"{server}/5",
        "HOST_URL": f"{server}/6",
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path),
    }


@contextmanager
def leaving_no_connection(client: redis.Redis) -> Iterator[None]:
    def connections() -> set[str]:
        found: Any = client.client_list()
        ours = {one["id"] for one in found if one["db"] in {"0", "5"}}  # 6 is the host's own.
        # Another each time where it was idle for long.
        return ours - {str(client.client_id())}

    before = connections()
    yield
    eventually(lambda: connections() <= before)


def have_their_own(told: list[list[Any]], processes: int) -> None:
    """Each process used one connection to the ledger, one of its loop, and one to the broker."""
    (parent,) = {json.dumps(sent) for sent, _ in told}
    by_pid = {one["pid"]: one for one in (json.loads(parent), *(one for _, one in told))}
    assert len(by_pid) == processes + 1
    used = [number for one in by_pid.values() for number in (*one["ledger"], one["broker"])]
    assert len(used) == len(set(used)) == 3 * len(by_pid)


def all_are_in(environ: dict[str, str], client: redis.Redis, calls: int) -> None:
    """Each message has its wake-up, which is another's in no case."""
    with connect(environ["SMSQ_BROKER_URL"]) as broker:
        found = [json.loads(text)["headers"]["id"] for text in broker.lrange("sms.notice", 0, -1)]
    assert len(found) == len(set(found)) == 10 * calls
    assert {f"smsq:m:{one}" for one in found} == {*client.scan_iter("smsq:m:*")}


def test_a_process_that_forks_after_use_and_its_child_go_on(
    shop: dict[str, str], client: redis.Redis
) -> None:
    with leaving_no_connection(client):
        command = [sys.executable, "-W", "error", "-c", FORKING]
        done = subprocess.run(
            command, env=shop, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
    have_their_own([json.loads(done.stdout)], 1)
    all_are_in(shop, client, 3)


def test_a_process_that_forks_while_others_of_its_threads_send(
    shop: dict[str, str], client: redis.Redis
) -> None:
    with leaving_no_connection(client):
        command = [sys.executable, "-c", LOCKING]
        done = subprocess.run(
            command, env=shop, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
    have_their_own([json.loads(done.stdout)], 1)
    all_are_in(shop, client, 2)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("smsq.configuring", "settle"),
        ("smsq.app", "connect_in_time"),
        ("smsq.app", "LedgerWriter"),
        ("smsq.app", "shared_config"),
    ],
)
def test_a_process_that_forks_while_another_of_its_threads_sends_for_the_first_time(
    environ: dict[str, str], client: redis.Redis, module: str, name: str
) -> None:
    """What is made once is locked meanwhile, before Python 3.12, and stayed so in the child."""
    code = FIRST_USE.format(module=module, name=name)
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
    assert client.llen("sms.notice") == 1


def test_workers_of_gunicorn_that_preloads_the_application(
    shop: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    path = tmp_path / "gunicorn.sock"
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"unix:{path}"]
    told: list[list[Any]] = []

    def ask() -> bool:
        with closing(http.client.HTTPConnection("shop", timeout=30)) as line:
            line.sock = socket.socket(socket.AF_UNIX)
            try:
                line.sock.connect(str(path))
            except OSError:
                return False
            line.request("GET", "/", headers={"Connection": "close"})
            with line.getresponse() as answer:
                told.append(json.loads(answer.read()))
        return len({one["pid"] for _, one in told}) == 2

    with leaving_no_connection(client):
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen([*command, "shop:application"], env=shop, stderr=log)
        try:
            eventually(lambda: server.poll() is not None or ask())
        finally:
            server.terminate()
            server.wait(30)
    have_their_own(told, 2)
    all_are_in(shop, client, 1 + len(told))


def test_processes_of_a_celery_host(
    shop: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    options = ["-A", "shop:host", "worker", "-P", "prefork", "-c", "2"]
    command = [sys.executable, "-m", "celery", *options]
    told: list[list[Any]] = []

    def ask() -> bool:
        with Celery(broker=shop["HOST_URL"], set_as_current=False) as app:
            for _ in range(4):
                app.send_task("shop.answer")
        for _ in range(4):
            answer: Any = answers.blpop("answers", timeout=30)
            told.append(json.loads(answer[1]))
        return len({one["pid"] for _, one in told}) == 2

    with leaving_no_connection(client), connect(shop["HOST_URL"], try_s=60) as answers:
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(command, env=shop, stdout=log, stderr=log)
        try:
            eventually(ask)
        finally:
            worker.terminate()
            worker.wait(30)
    have_their_own(told, 2)
    all_are_in(shop, client, 1 + len(told))
