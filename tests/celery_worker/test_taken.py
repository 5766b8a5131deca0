"""A worker dies with wake-ups that it had taken from a queue: who brings them back."""

from __future__ import annotations

import zipfile
from itertools import count
from pathlib import Path

from celery import Celery

import smsq
from harness.machine import Machine, dies
from harness.paths import RELEASES
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq.failpoints import VARIABLE
from smsq_worker.sending.consumer_gate import MAX_TAKEN

PHONES = (f"138{number:08}" for number in count(1000))
TEMPLATE = "SMS_1001"
UNACKED, TIMES = "unacked", "unacked_index"


def visible_again(host: Machine) -> None:
    """Let Celery's visibility timeout pass for all that dead workers had taken."""
    for tag in host.client.zrange(TIMES, 0, -1):
        host.client.zadd(TIMES, {tag: 0})


def bare(host: Machine) -> str:
    with Celery(broker=host.environ["SMSQ_REDIS_URL"], set_as_current=False) as app:
        args = (next(PHONES), TEMPLATE, "482913")
        return str(app.send_task("smsq.send_sms", args, queue="sms.notice").id)


def test_all_that_one_command_took_come_back_by_their_timers(host: Machine) -> None:
    ids = [smsq.send_sms.delay(next(PHONES), TEMPLATE).id for _ in range(MAX_TAKEN + 3)]
    dies(host.start_worker(**{VARIABLE: "after pop"}))
    assert host.client.llen("sms.notice") == 3
    assert not host.client.exists(UNACKED)
    assert {known(one).state for one in ids} == {"queued"}
    for one in ids[:MAX_TAKEN]:
        host.client.hset(keys.message(one), "published", 0)
        host.run_out(one)
    host.start_worker()
    for one in ids:
        assert len(becomes(one, "accepted").attempts) == 1
    assert len(host.vendor.calls) == len(ids)


def test_a_bare_message_is_kept_until_the_ledger_has_it(host: Machine) -> None:
    message_id = bare(host)
    dies(host.start_worker(**{VARIABLE: "before a bare entry"}))
    assert smsq.status(message_id) is None
    assert host.client.hlen(UNACKED) == 1
    visible_again(host)
    host.start_worker()
    becomes(message_id, "accepted")
    eventually(lambda: not host.client.exists(UNACKED, TIMES))
    assert len(host.vendor.calls) == 1


def test_a_bare_message_dies_with_a_worker_between_two_commands(host: Machine) -> None:
    """The limit that docs/guides/other-languages.md names."""
    message_id = bare(host)
    dies(host.start_worker(**{VARIABLE: "after pop"}))
    assert smsq.status(message_id) is None
    assert not host.client.exists(UNACKED, "sms.notice")


def test_what_release_0_2_0_had_taken_is_restored(host: Machine, tmp_path: Path) -> None:
    zipfile.ZipFile(RELEASES / "smsq-0.2.0-py3-none-any.whl").extractall(tmp_path / "0.2.0")
    old = host.start_worker("--concurrency", "1", PYTHONPATH=str(tmp_path / "0.2.0"))
    host.vendor.withhold()
    called = smsq.send_sms.delay(next(PHONES), TEMPLATE, on_ambiguous="hold").id
    eventually(lambda: host.vendor.calls)
    untaken = bare(host)
    assert host.client.hlen(UNACKED) == 1
    old.kill()
    dies(old)
    host.vendor.release()
    visible_again(host)
    host.start_worker()
    becomes(untaken, "accepted")
    eventually(lambda: not host.client.exists(UNACKED, TIMES, "sms.notice"))
    # Its lease holds: the wake-up that came back changed nothing.
    assert known(called).state == "sending"
    host.run_out(called)
    becomes(called, "held")
    assert len(host.vendor.calls) == 2


def test_batches_that_are_too_much_for_a_worker_stay_in_their_queue_in_their_order(
    host: Machine,
) -> None:
    rows = [{"phone": next(PHONES), "template": TEMPLATE} for _ in range(500)]
    assert smsq.send_many(rows) == len(rows)
    queued = host.client.lrange("sms.bulk", 0, -1)
    assert len(queued) == 5
    host.vendor.withhold()
    slow = {"SMSQ_RATE_PER_S": "20", "SMSQ_RATE_BURST": "1"}
    host.start_worker(**slow)
    eventually(lambda: host.vendor.calls)
    # Its first command may have taken all of them, before it knew that they are batches.
    assert host.client.lrange("sms.bulk", 0, -1) == queued[:-1]
    otp = smsq.send_sms.delay(next(PHONES), TEMPLATE, lane="otp").id
    host.vendor.release()
    becomes(otp, "accepted")
