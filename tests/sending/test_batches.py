"""Batches in real workers: sent in groups, and lost by nobody."""

from __future__ import annotations

import json
import signal
from collections import Counter
from typing import Any

import pytest

import smsq
from harness.machine import Machine, dies, ends
from harness.vendor_server import accepted, refused
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq_worker.config.settings import Settings
from smsq_worker.infra.wakeups import ids_of
from smsq_worker.ledger.admin import ACCOUNT, Control


def campaign(count: int, batch_size: int = 100, **more: Any) -> list[str]:
    ids: list[str] = []
    row = {"template": "SMS_1001", "code": "1", **more}
    smsq.send_many(
        ({"phone": f"138{n:08}", **row} for n in range(count)),
        batch_size=batch_size,
        on_batch=ids.extend,
    )
    return ids


def states(ids: list[str]) -> Counter[str]:
    return Counter(known(one).state for one in ids)


def all_become(ids: list[str], state: str) -> None:
    eventually(lambda: states(ids) == {state: len(ids)}, 60)


def calls_by_phone(host: Machine) -> Counter[str]:
    return Counter(host.vendor.phones())


def test_a_campaign_is_sent_once_each(host: Machine) -> None:
    host.start_worker()
    ids = campaign(250)
    all_become(ids, "accepted")
    assert len(host.vendor.calls) == 250
    assert set(calls_by_phone(host).values()) == {1}
    assert host.client.hget(keys.LIVE, "bulk:queued") == "0"
    # Its bookkeeping is over, too.
    eventually(lambda: not host.client.hlen("unacked"))


def test_each_message_has_its_own_end(host: Machine) -> None:
    answers = iter([accepted, refused] * 5)

    def answer(mid: str) -> tuple[int, dict[str, object]]:
        return next(answers)(mid)

    host.vendor.answer = answer
    host.start_worker()
    ids = campaign(10)
    eventually(lambda: states(ids) == {"accepted": 5, "failed": 5})


def test_a_batch_keeps_the_rate_and_lets_an_otp_pass(host: Machine) -> None:
    host.start_worker(SMSQ_RATE_PER_S="5", SMSQ_RATE_BURST="1")
    campaign(100)
    eventually(lambda: len(host.vendor.calls) >= 2)
    before = len(host.vendor.calls)
    otp = smsq.send_sms.delay("13900139000", "SMS_1001", "1", lane="otp")
    becomes(otp.id, "accepted")
    # It had one of the next turns: bulk books 100 ms ahead, which is not even one.
    position = host.vendor.phones().index("13900139000")
    assert position - before <= 3


@pytest.mark.parametrize("point", ["after admit", "after call", "after record"])
def test_a_killed_batch_is_taken_up_by_the_ledgers_truth(host: Machine, point: str) -> None:
    worker = host.start_worker(SMSQ_TEST_KILL_AT=point)
    ids = campaign(20)
    dies(worker)
    found = states(ids)
    assert set(found) <= {"queued", "sending", "accepted"}
    in_doubt = [one for one in ids if known(one).state == "sending"]
    if point == "after record":
        assert found["accepted"] >= 1

    host.start_worker()
    for one in ids:
        if known(one).state in {"queued", "sending"}:
            host.run_out(one)
    eventually(lambda: all(known(one).state != "sending" for one in ids), 60)
    for one in in_doubt:
        eventually(lambda one=one: known(one).state in {"deferred", "queued", "accepted"})
    all_become(ids, "accepted")
    again = [phone for phone, count in calls_by_phone(host).items() if count > 1]
    assert len(again) <= host.possible_duplicates() == len(in_doubt)


def test_a_worker_that_stops_finishes_the_calls_and_gives_the_rest_back(host: Machine) -> None:
    worker = host.start_worker(SMSQ_RATE_PER_S="0.01", SMSQ_RATE_BURST="3")
    ids = campaign(20)
    eventually(lambda: states(ids)["accepted"] == 3)
    worker.send_signal(signal.SIGTERM)
    ends(worker, 0)
    assert states(ids) == {"accepted": 3, "queued": 17}
    (text,) = host.client.lrange("sms.bulk", 0, -1)
    # Those that have been called are not woken up again.
    assert ids_of(str(text)) == [one for one in ids if known(one).state == "queued"]
    assert host.client.hlen("unacked") == 0


def test_an_impatient_stop_leaves_the_calls_in_doubt(host: Machine) -> None:
    host.vendor.withhold()
    worker = host.start_worker()
    ids = campaign(10)
    eventually(lambda: len(host.vendor.calls) == 10)
    worker.terminate()
    eventually(lambda: "Warm shutdown" in (host.logs / "worker0.log").read_text())
    worker.terminate()
    ends(worker, 1)
    assert states(ids) == {"deferred": 10}


def test_a_pause_leaves_the_batch_in_its_queue(host: Machine) -> None:
    control = Control(host.client, Settings.load(host.environ).rules)
    control.pause(ACCOUNT, "for a test")
    host.start_worker()
    ids = campaign(10)
    otp = smsq.send_sms.delay("13900139000", "SMS_1001", "1", lane="otp")
    assert states([*ids, otp.id]) == {"queued": 11}
    control.resume(ACCOUNT, "over")
    all_become([*ids, otp.id], "accepted")
    assert set(calls_by_phone(host).values()) == {1}


def test_a_copy_of_a_batch_changes_nothing(host: Machine) -> None:
    ids = campaign(5)
    (text,) = host.client.lrange("sms.bulk", 0, -1)
    copy = json.loads(text)
    copy["properties"]["delivery_tag"] = "another"
    host.client.lpush("sms.bulk", json.dumps(copy))
    host.start_worker()
    all_become(ids, "accepted")
    eventually(lambda: not host.client.llen("sms.bulk") and not host.client.hlen("unacked"))
    assert set(calls_by_phone(host).values()) == {1}


def test_a_batch_that_makes_no_sense_is_dropped_and_the_next_is_sent(host: Machine) -> None:
    for ids in ([7], "abc", [], [["a"]], {"a": 1}, ["x" * 300]):
        smsq.tasks.app.send_task("smsq.send_batch", (ids,), queue="sms.bulk")
    host.start_worker()
    all_become(campaign(3), "accepted")
    eventually(lambda: not host.client.llen("sms.bulk") and not host.client.hlen("unacked"))
