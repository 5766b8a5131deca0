"""What a worker takes from a queue is in one place at any time, and keeps nothing waiting."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

import smsq
from harness.machine import Machine, dies
from harness.remote import remote
from harness.scene import PHONE
from harness.waiting import becomes, eventually, known
from harness.wire import Envelope, with_body
from smsq import keys
from smsq.contract import SEND_BATCH, SEND_SMS
from smsq_worker.celery_worker.envelope import is_in_ledger
from smsq_worker.celery_worker.transport import Transport

QUEUE = "sms.notice"
OUTAGE = json.dumps({"cause": "outage", "detail": "", "since": 1, "probe_at": 1})


@pytest.fixture
def full(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client of a server which a test may bring to its limit."""
    yield client
    client.config_set("maxmemory", 0)


def push_bare(client: redis.Redis, number: str = PHONE) -> str:
    message: Envelope = with_body([number, "SMS_1", "1"], {}, {})
    client.lpush(QUEUE, json.dumps(message))
    message_id: str = message["headers"]["id"]
    return message_id


def test_at_the_memory_limit_a_bare_message_waits_alone(host: Machine, full: redis.Redis) -> None:
    worker = host.start_worker()
    os.kill(worker.pid, signal.SIGSTOP)
    bare = push_bare(full)
    other = smsq.send_sms.delay(PHONE, "SMS_2", "1").id
    full.config_set("maxmemory", 1)
    os.kill(worker.pid, signal.SIGCONT)
    log = host.logs / "worker0.log"
    eventually(lambda: "entering of bare messages of lane notice waits" in log.read_text())
    # Until the scheduler sees that Redis is full and closes the lanes, the other goes on.
    eventually(lambda: known(other).state == "accepted" or "takes nothing new" in log.read_text())
    assert smsq.status(bare) is None
    full.config_set("maxmemory", 0)
    for each in (other, bare):
        becomes(each, "accepted")
    assert len(host.vendor.calls) == 2


def test_wake_ups_of_what_ended_in_an_outage_do_not_keep_its_end_from_being_found_out(
    host: Machine, client: redis.Redis
) -> None:
    """One at each word of the scheduler they took as many seconds as there were messages."""
    ended = [smsq.send_sms.delay(PHONE, "SMS_1", "1") for _ in range(400)]
    last = smsq.send_sms.delay(PHONE, "SMS_1", "1")
    for one in ended:
        one.revoke()
    client.hset(keys.PAUSES, "breaker", OUTAGE)
    host.start_worker()
    becomes(last.id, "accepted")
    assert not client.exists(keys.PAUSES)


@pytest.mark.parametrize("task", [SEND_SMS, SEND_BATCH])
def test_nor_do_bare_messages_that_never_enter_the_ledger(
    host: Machine, client: redis.Redis, task: str
) -> None:
    message: Envelope = with_body(["no number"], {}, {})
    message["headers"]["task"] = task
    for n in range(120):
        message["headers"]["id"] = f"bare{n}"
        client.lpush(QUEUE, json.dumps(message))
    last = smsq.send_sms.delay(PHONE, "SMS_1", "1")
    client.hset(keys.PAUSES, "breaker", OUTAGE)
    host.start_worker()
    becomes(last.id, "accepted")
    assert not client.exists(keys.PAUSES)


def test_one_that_the_limit_kept_out_needs_no_other_to_come(
    host: Machine, full: redis.Redis
) -> None:
    worker = host.start_worker()
    os.kill(worker.pid, signal.SIGSTOP)
    bare = push_bare(full)
    full.config_set("maxmemory", 1)
    os.kill(worker.pid, signal.SIGCONT)
    log = host.logs / "worker0.log"
    eventually(lambda: "is full" in log.read_text() and full.hlen("unacked") == 1)
    full.config_set("maxmemory", 0)
    becomes(bare, "accepted")


def test_a_worker_that_stood_still_for_longer_than_it_lets_connections_idle_takes_again(
    host: Machine,
) -> None:
    worker = host.start_worker(SMSQ_IDLE_TIMEOUT_S="0")  # Any time is longer than that.
    becomes(smsq.send_sms.delay(PHONE, "SMS_1", "1").id, "accepted")
    os.kill(worker.pid, signal.SIGSTOP)
    waiting = smsq.send_sms.delay(PHONE, "SMS_2", "1").id
    with remote(host, worker) as asked:
        # Something to read over the connection that has subscribed, as there always is by then.
        asked.app.control.broadcast("ping")
        os.kill(worker.pid, signal.SIGCONT)
        becomes(waiting, "accepted")
        assert asked.inspect("ping")
    assert len(host.vendor.calls) == 2


def test_a_killed_worker_loses_no_more_than_one_that_is_nowhere_else(
    host: Machine, client: redis.Redis
) -> None:
    for n in range(40):
        push_bare(client, f"138{n:08}")
    dies(host.start_worker(SMSQ_TEST_KILL_AT="before note"))
    assert client.llen(QUEUE) == 39


def test_what_two_threads_give_back_is_in_its_queue_once(
    client: redis.Redis, base_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane and Celery, which closes its channel, both do when a worker ends."""
    ids = [smsq.send_sms.delay(f"138{n:08}", "SMS_1", "1").id for n in range(5)]
    taken: list[Any] = []
    with Connection(base_environ["SMSQ_REDIS_URL"], transport=Transport) as connection:
        channel: Any = connection.channel()
        channel.basic_consume(QUEUE, False, taken.append, "tag")
        eventually(lambda: connection.drain_events(timeout=5) or len(taken) == 5)
        assert all(map(is_in_ledger, taken))
        restore = channel.requeue

        def meanwhile(*message: Any) -> None:
            monkeypatch.setattr(channel, "requeue", restore)
            for one in taken:
                one.reject(requeue=True)
            restore(*message)

        monkeypatch.setattr(channel, "requeue", meanwhile)
        channel.close()
    found = [json.loads(text)["headers"]["id"] for text in client.lrange(QUEUE, 0, -1)]
    assert sorted(found) == sorted(ids)
