"""A worker is asked to end: what is under way is recorded, what waits is given back in order."""

from __future__ import annotations

import json
import signal
import subprocess
from itertools import count
from typing import Any

import pytest

import smsq
from harness.machine import Machine, ends
from harness.remote import remote
from harness.waiting import becomes, eventually, known
from smsq.contract import SEND_BATCH
from smsq_worker.infra.wakeups import ids_of

PHONES = (f"138{number:08}" for number in count(1000))
ROWS, SINGLE = 6, 3


def ask(host: Machine, worker: subprocess.Popen[bytes], how: str) -> None:
    if how == "remote control":
        with remote(host, worker) as asked:
            asked.app.control.shutdown([asked.worker])
    else:
        worker.send_signal(getattr(signal, how))


def crowd(host: Machine) -> tuple[list[str], list[str]]:
    """Have a batch with two attempts under way, and others behind; give their ids."""
    host.vendor.withhold()
    rows = [{"phone": next(PHONES), "template": "SMS_1001"} for _ in range(ROWS)]
    assert smsq.send_many(rows) == ROWS
    (batch,) = left(host)
    worker = host.start_worker("--concurrency", "3")
    eventually(lambda: len(host.vendor.calls) == 2)
    single = [smsq.send_sms.delay(next(PHONES), "SMS_1001", lane="bulk").id for _ in range(SINGLE)]
    with remote(host, worker) as asked:
        eventually(lambda: asked.reserved() == sorted(single))
    assert not host.client.exists("sms.bulk")
    return batch, single


def left(host: Machine) -> list[Any]:
    """Give what the wake-ups in the queue of bulk are about, the next one first."""
    found = []
    for item in reversed(host.client.lrange("sms.bulk", 0, -1)):
        ids = ids_of(item)
        found.append(ids if json.loads(item)["headers"]["task"] == SEND_BATCH else ids[0])
    return found


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "remote control"])
def test_what_waits_is_given_back_in_its_order_and_each_is_sent_once(
    host: Machine, how: str
) -> None:
    batch, single = crowd(host)
    (worker,) = host.workers
    ask(host, worker, how)
    eventually(lambda: host.client.llen("sms.bulk") == 1 + SINGLE)
    assert left(host) == [batch[2:], *single]
    assert worker.poll() is None
    host.vendor.release()
    ends(worker, 1 if how == "SIGINT" else 0)
    assert left(host) == [batch[2:], *single]
    assert [known(one).state for one in batch] == ["accepted"] * 2 + ["queued"] * (ROWS - 2)
    host.start_worker()
    for one in batch + single:
        assert len(becomes(one, "accepted").attempts) == 1
    assert len(host.vendor.calls) == ROWS + SINGLE
    assert host.possible_duplicates() == 0


@pytest.mark.parametrize("how", ["SIGQUIT", "SIGTERM twice"])
def test_one_that_may_not_wait_hides_no_doubt_and_gives_the_rest_back(
    host: Machine, how: str
) -> None:
    batch, single = crowd(host)
    (worker,) = host.workers
    if how == "SIGQUIT":
        ask(host, worker, how)
    else:
        ask(host, worker, "SIGTERM")
        eventually(lambda: host.client.llen("sms.bulk") == 1 + SINGLE)
        ask(host, worker, "SIGTERM")
    ends(worker, 1)
    for one in batch[:2]:
        (attempt,) = known(one).attempts
        assert (attempt.outcome, attempt.detail) == ("maybe_sent", "worker was stopped")
    if how == "SIGTERM twice":
        # Beside those two, if they are due again by now.
        assert [one for one in left(host) if one not in batch[:2]] == [batch[2:], *single]
    host.vendor.release()
    host.start_worker()
    for one in batch[2:] + single:
        if how == "SIGQUIT":  # Celery may have closed the connection first: a timer wakes it up.
            host.run_out(one)
        assert len(becomes(one, "accepted").attempts) == 1
    for one in batch[:2]:
        assert len(becomes(one, "accepted").attempts) == 2
    assert len(host.vendor.calls) == ROWS + SINGLE + 2
    assert host.possible_duplicates() == 2


def test_one_that_is_hung_up_ends_in_peace_and_starts_again(host: Machine) -> None:
    host.vendor.withhold()
    under_way = smsq.send_sms.delay(next(PHONES), "SMS_1001").id
    # Not forked from another process: what is started again is the command.
    worker = host.start_worker("--concurrency", "1", PYTHONNODEBUGRANGES="1")
    eventually(lambda: len(host.vendor.calls) == 1)
    log = host.logs / "worker0.log"
    worker.send_signal(signal.SIGHUP)
    eventually(lambda: b"then it starts again" in log.read_bytes())
    worker.send_signal(signal.SIGHUP)
    host.vendor.release()
    assert len(becomes(under_way, "accepted").attempts) == 1
    eventually(lambda: log.read_bytes().count(b"[queues]") == 2)
    assert len(becomes(smsq.send_sms.delay(next(PHONES), "SMS_1001").id, "accepted").attempts) == 1
    assert host.possible_duplicates() == 0
    worker.send_signal(signal.SIGTERM)
    ends(worker, 0)


def test_one_that_is_to_end_after_a_hangup_does_so_in_peace_and_for_good(host: Machine) -> None:
    """A session that is over may send both, and systemd stops what is still being reloaded."""
    host.vendor.withhold()
    under_way = smsq.send_sms.delay(next(PHONES), "SMS_1001").id
    worker = host.start_worker("--concurrency", "1")
    eventually(lambda: len(host.vendor.calls) == 1)
    log = host.logs / "worker0.log"
    worker.send_signal(signal.SIGHUP)
    eventually(lambda: b"then it starts again" in log.read_bytes())
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: b"Warm shutdown (MainProcess)" in log.read_bytes())
    host.vendor.release()
    ends(worker, 0)
    assert len(becomes(under_way, "accepted").attempts) == 1
    assert log.read_bytes().count(b"[queues]") == 1
