"""Celery's remote control keeps its meaning, or says what to use instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import pytest

import smsq
from harness.machine import Machine, machine
from harness.remote import Remote, remote
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq.contract import SEND_SMS

PHONES = (f"138{number:08}" for number in count(1000))
TEMPLATE = "SMS_1001"


@pytest.fixture(scope="module")
def host(
    base_environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with machine(dict(base_environ), tmp_path_factory.mktemp("worker")) as host:
        host.start_worker("--concurrency", "1")
        yield host


@pytest.fixture
def worker(host: Machine) -> Iterator[Remote]:
    with remote(host, host.workers[0]) as worker:
        yield worker
        host.vendor.release()
        eventually(lambda: worker.active() == worker.reserved() == [])
        assert host.workers[0].poll() is None


def send(lane: str = "notice") -> str:
    return smsq.send_sms.delay(next(PHONES), TEMPLATE, "482913", lane=lane).id


def one_active(host: Machine, worker: Remote) -> str:
    """Have one attempt under way, which the gateway does not answer."""
    host.vendor.withhold()
    message_id = send()
    eventually(lambda: worker.active() == [message_id])
    return message_id


def test_inspect_shows_what_is_under_way_and_what_waits(host: Machine, worker: Remote) -> None:
    before = worker.inspect("stats")["total"].get("smsq.send_sms", 0)
    active = one_active(host, worker)
    waiting = sorted(send() for _ in range(2))
    eventually(lambda: worker.reserved() == waiting)
    assert worker.active() == [active]
    found = worker.inspect("query_task", active, waiting[0], "nobody")
    assert {one: state for one, (state, _) in found.items()} == {
        active: "active",
        waiting[0]: "reserved",
    }
    ((task),) = worker.inspect("active")
    assert (task["name"], task["args"]) == (
        "smsq.send_sms",
        f"('{known(active).phone}', '{TEMPLATE}')",
    )
    assert task["acknowledged"] is True
    stats = worker.inspect("stats")
    assert stats["total"]["smsq.send_sms"] - before == 1
    assert stats["pool"]["max-concurrency"] == 1
    host.vendor.release()
    for message_id in (active, *waiting):
        becomes(message_id, "accepted")
    eventually(lambda: worker.active() == worker.reserved() == [])
    assert worker.inspect("stats")["total"]["smsq.send_sms"] - before == 3


def test_an_otp_goes_beside_the_one_attempt_of_a_limit_of_1(host: Machine, worker: Remote) -> None:
    active = one_active(host, worker)
    waiting = send("bulk")
    eventually(lambda: worker.reserved() == [waiting])
    otp = send("otp")
    eventually(lambda: worker.active() == sorted([active, otp]))
    assert worker.reserved() == [waiting]


def test_revoke_cancels_a_message_and_strands_none(host: Machine, worker: Remote) -> None:
    worker.control("cancel_consumer", queue="sms.notice")
    first, second = send(), send()
    answers = worker.control("revoke", task_id=[first, second])["ok"]
    assert answers == dict.fromkeys(
        [first, second], "cancelled: it certainly was not sent, and will not be"
    )
    assert worker.inspect("revoked") == []
    assert [known(one).state for one in (first, second)] == ["cancelled"] * 2
    calls = len(host.vendor.calls)
    worker.control("add_consumer", queue="sms.notice")
    becomes(send(), "accepted")
    assert len(host.vendor.calls) == calls + 1
    eventually(lambda: not host.client.exists("sms.notice", "unacked"))
    ((_, entry),) = host.client.xrevrange(keys.AUDIT, count=1)
    assert (entry["what"], entry["effect"]) == ("control revoke", "2 cancelled")


def test_a_revoked_message_that_no_worker_has_taken_from_others_is_dropped(
    host: Machine, worker: Remote
) -> None:
    """It is in no ledger, so nothing waits for it."""
    worker.control("cancel_consumer", queue="sms.notice")
    smsq.send_sms.app.send_task(
        SEND_SMS, (next(PHONES), TEMPLATE), task_id="bare", queue="sms.notice", ignore_result=True
    )
    assert "unknown to the ledger" in worker.control("revoke", task_id="bare")["ok"]["bare"]
    worker.control("add_consumer", queue="sms.notice")
    becomes(send(), "accepted")
    assert smsq.status("bare") is None
    assert not host.client.exists("sms.notice")


def test_what_is_under_way_cannot_be_terminated(host: Machine, worker: Remote) -> None:
    active = one_active(host, worker)
    waiting = send()
    eventually(lambda: worker.reserved() == [waiting])
    for one in (active, waiting):
        answer = worker.control("revoke", task_id=one, terminate=True, signal="SIGKILL")
        assert "it ends by itself" in answer["error"]
        assert (
            "it ends by itself" in worker.control("terminate", signal="KILL", task_id=one)["error"]
        )
    assert worker.active() == [active]
    assert known(waiting).state == "cancelled"
    host.vendor.release()
    becomes(active, "accepted")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("pool_grow", {"n": 1}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {}),
        ("autoscale", {"max": 9, "min": 1}),
    ],
)
def test_the_number_of_attempts_at_once_is_no_ones_to_change(
    worker: Remote, command: str, arguments: dict[str, int]
) -> None:
    assert "`smsq worker --concurrency N`" in worker.control(command, **arguments)["error"]


def test_a_queue_is_left_alone_while_its_consumer_is_cancelled(
    host: Machine, worker: Remote
) -> None:
    worker.control("cancel_consumer", queue="sms.bulk")
    eventually(lambda: "sms.bulk" not in queues(worker))
    ids = [send("bulk") for _ in range(3)]
    # The otp is taken by the command that began before, or a later one.
    becomes(send("otp"), "accepted")
    assert host.client.llen("sms.bulk") == 3
    assert [known(one).state for one in ids] == ["queued"] * 3
    worker.control("add_consumer", queue="sms.bulk")
    for one in ids:
        becomes(one, "accepted")
    # In their order: what came for a cancelled consumer went back as it was.
    assert [phone[-4:] for phone in host.vendor.phones()[-3:]] == [
        known(one).phone[-4:] for one in ids
    ]


def queues(worker: Remote) -> set[str]:
    return {queue["name"] for queue in worker.inspect("active_queues")}


def test_a_rate_limit_of_celerys_is_for_other_tasks(worker: Remote) -> None:
    for name in ("smsq.send_sms", "smsq.send_batch"):
        answer = worker.control("rate_limit", task_name=name, rate_limit="1/h")
        assert "`smsq rate N`" in answer["error"]
    becomes(send(), "accepted")
    answer = worker.control("rate_limit", task_name="smsq.reconcile_report", rate_limit="9/s")
    assert answer == {"ok": "new rate limit set successfully"}


def test_a_time_limit_of_celerys_is_for_other_tasks(worker: Remote) -> None:
    answer = worker.control("time_limit", task_name="smsq.send_sms", soft=1)
    assert "SMSQ_READ_TIMEOUT_S" in answer["error"]
