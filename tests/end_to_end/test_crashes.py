"""Who dies when, what is written by then, who picks it up: kill -9 at each of those moments.

The timers that would bring a message back in time are made to run out at once.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import smsq
from harness.campaigns import SPRING, is_swept
from harness.machine import Machine, dies, ends
from harness.waiting import becomes, eventually, known
from smsq import keys
from smsq.contract import Lane
from smsq.failpoints import VARIABLE
from smsq.publishing import publish, publish_reports
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.states import read_states

PHONE = "13800138000"


def send(**options: str) -> str:
    return smsq.send_sms.delay(PHONE, "SMS_1001", "482913", **options).id


def killed_at(host: Machine, point: str, **options: str) -> str:
    """Send a message to a worker that dies at a point; give the message's id."""
    worker = host.start_worker(**{VARIABLE: point})
    message_id = send(**options)
    dies(worker)
    return message_id


def test_a_worker_that_dies_before_admit_leaves_the_message_queued(host: Machine) -> None:
    message_id = killed_at(host, "before admit")
    assert known(message_id).state == "queued"
    host.start_worker()
    host.run_out(message_id)
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 1
    assert host.possible_duplicates() == 0


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        pytest.param("after admit", 0, id="before the call"),
        pytest.param("after call", 1, id="with the answer in its hand"),
    ],
)
@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_a_worker_that_dies_between_admit_and_record_leaves_doubt_to_the_policy(
    host: Machine, point: str, calls: int, policy: str
) -> None:
    message_id = killed_at(host, point, on_ambiguous=policy)
    assert known(message_id).state == "sending"
    assert len(host.vendor.calls) == calls
    host.start_worker()
    host.run_out(message_id)
    if policy == "hold":
        becomes(message_id, "held")
        assert len(host.vendor.calls) == calls
        assert host.possible_duplicates() == 0
    else:
        status = becomes(message_id, "accepted")
        assert [attempt.outcome for attempt in status.attempts] == ["maybe_sent", "accepted"]
        assert len(host.vendor.calls) == calls + 1
        assert host.possible_duplicates() == 1


def test_a_worker_that_dies_during_the_call_leaves_doubt(host: Machine) -> None:
    worker = host.start_worker()
    host.vendor.before_answer = lambda mid: worker.kill()
    message_id = send()
    dies(worker)
    assert known(message_id).state == "sending"
    host.vendor.before_answer = lambda mid: None
    host.start_worker()
    host.run_out(message_id)
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 2
    assert host.possible_duplicates() == 1


def test_a_worker_that_dies_after_record_has_done_its_work(host: Machine) -> None:
    message_id = killed_at(host, "after record")
    assert known(message_id).state == "accepted"
    host.start_worker()
    # What Celery does after its visibility timeout.
    publish(smsq.send_sms.app, message_id, Lane.NOTICE)
    eventually(lambda: not host.client.exists("sms.notice"))
    after = send()
    becomes(after, "accepted")
    assert len(host.vendor.calls) == 2
    assert len(known(message_id).attempts) == 1


def lost_on_its_way(host: Machine) -> str:
    """Send a message whose wake-up is lost, which a scheduler sees now."""
    message_id = send()
    host.client.delete("sms.notice")
    host.client.hset(keys.message(message_id), "published", 0)
    host.run_out(message_id)
    return message_id


def has_a_broker_of_its_own(host: Machine) -> None:
    host.environ["SMSQ_BROKER_URL"] = host.environ["SMSQ_REDIS_URL"].removesuffix("/0") + "/5"


def test_a_scheduler_that_dies_after_a_claim_has_woken_up_what_it_claimed(host: Machine) -> None:
    message_id = lost_on_its_way(host)
    # It takes nothing of the message's lane.
    dies(host.start_worker("-Q", "sms.otp", **{VARIABLE: "after claim"}))
    assert host.client.llen("sms.notice") == 1
    host.start_worker()
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 1


def test_with_a_separate_broker_one_that_dies_before_it_publishes_leaves_the_message_queued(
    host: Machine,
) -> None:
    has_a_broker_of_its_own(host)
    message_id = lost_on_its_way(host)
    dies(host.start_worker(**{VARIABLE: "after claim"}))
    assert known(message_id).state == "queued"
    assert not host.client.exists("sms.notice")
    host.start_worker()
    host.run_out(message_id)
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 1


def producer_dies(host: Machine, point: str) -> None:
    code = f"import smsq; smsq.send_sms.delay('{PHONE}', 'SMS_1001')"
    environ = host.environ | {VARIABLE: point}
    done = subprocess.run([sys.executable, "-c", code], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_producer_that_dies_before_the_entry_leaves_nothing(host: Machine) -> None:
    producer_dies(host, "before entry")
    assert not [*host.client.scan_iter("smsq:*")]
    assert not [*host.client.scan_iter("sms.*")]


def test_a_producer_that_dies_after_the_entry_has_enqueued_and_woken_up(host: Machine) -> None:
    producer_dies(host, "after entry")
    (message_id,) = host.client.zrange(keys.TIMERS, 0, -1)
    host.start_worker()
    # No timer runs out.
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 1


def test_with_a_separate_broker_one_that_dies_before_it_publishes_has_enqueued(
    host: Machine,
) -> None:
    has_a_broker_of_its_own(host)
    producer_dies(host, "after entry")
    (message_id,) = host.client.zrange(keys.TIMERS, 0, -1)
    assert known(message_id).state == "queued"
    host.start_worker()
    host.run_out(message_id)
    becomes(message_id, "accepted")


@pytest.mark.parametrize(
    ("point", "state"), [("before report", "accepted"), ("after report", "delivered")]
)
def test_a_worker_that_dies_over_a_report_loses_none(host: Machine, point: str, state: str) -> None:
    worker = host.start_worker(**{VARIABLE: point})
    message_id = send()
    mid = becomes(message_id, "accepted").attempts[0].mid
    assert mid is not None
    host.ledger.take_in([(mid, "DELIVRD")], wake_after_s=3600)
    publish_reports(smsq.send_sms.app, [(mid, "DELIVRD")])
    dies(worker)
    assert known(message_id).state == state
    host.start_worker()
    for member in host.client.zrange(keys.INBOX, 0, -1):
        host.client.zadd(keys.INBOX, {member: 0})
    becomes(message_id, "delivered")
    eventually(lambda: not host.client.exists(keys.INBOX))


# Asked to stop


def test_sigterm_finishes_the_call_in_flight_and_gives_back_the_rest(host: Machine) -> None:
    host.vendor.withhold()
    worker = host.start_worker("--concurrency", "1")
    ids = [send() for _ in range(4)]
    eventually(lambda: host.vendor.calls)
    worker.terminate()
    eventually(lambda: "Warm shutdown" in (host.logs / "worker0.log").read_text())
    assert worker.poll() is None
    host.vendor.release()
    ends(worker, 0)
    states = [known(message_id).state for message_id in ids]
    assert sorted(states) == ["accepted", "queued", "queued", "queued"]
    assert len(host.vendor.calls) == 1
    # What it had taken and not begun is back for the others, with no timer's help.
    host.start_worker()
    for message_id in ids:
        becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 4
    assert host.possible_duplicates() == 0


@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_a_second_sigterm_does_not_wait_and_hides_no_doubt(host: Machine, policy: str) -> None:
    host.vendor.withhold()
    worker = host.start_worker()
    message_id = send(on_ambiguous=policy)
    eventually(lambda: host.vendor.calls)
    worker.terminate()
    eventually(lambda: "Warm shutdown" in (host.logs / "worker0.log").read_text())
    worker.terminate()
    ends(worker, 1)
    status = known(message_id)
    assert (status.attempts[0].outcome, status.attempts[0].detail) == (
        "maybe_sent",
        "worker was stopped",
    )
    host.vendor.release()
    host.start_worker()
    if policy == "hold":
        assert status.state == "held"
    else:
        becomes(message_id, "accepted")
        assert host.possible_duplicates() == 1


# Cancelled


@pytest.mark.parametrize(
    ("policy", "point", "calls", "answers"),
    [
        ("resend", "after pop", 0, ("cancelled", "cancelled")),
        ("hold", "before admit", 0, ("cancelled", "cancelled")),
        ("resend", "after admit", 0, ("under_way", "failed")),
        ("hold", "after admit", 0, ("under_way", "failed")),
        ("resend", "after call", 1, ("under_way", "failed")),
        ("hold", "after call", 1, ("under_way", "failed")),
        ("resend", "after record", 1, ("too_late", "accepted")),
    ],
)
def test_what_was_cancelled_after_a_death_is_not_called_again(
    host: Machine, point: str, calls: int, answers: tuple[str, str], policy: str
) -> None:
    answer, state = answers
    message_id = killed_at(host, point, on_ambiguous=policy)
    found = smsq.cancel(message_id)
    assert found is not None
    assert found.answer == answer
    host.start_worker()
    if answer == "under_way":
        host.run_out(message_id)
    status = becomes(message_id, state)
    assert status.reason == ("local:cancelled" if state == "failed" else None)
    # What comes after it in its lane has gone, so its own wake-up has been seen.
    publish(smsq.send_sms.app, message_id, Lane.NOTICE)
    after = send()
    becomes(after, "accepted")
    assert len(host.vendor.calls) == calls + 1
    assert known(message_id).state == state
    timed = host.client.zscore(keys.TIMERS, message_id)
    assert (timed is None) == (state != "accepted")


def test_while_the_gateway_is_asked_the_answer_says_so_and_its_answer_counts(host: Machine) -> None:
    host.vendor.withhold()
    host.start_worker()
    message_id = send()
    eventually(lambda: host.vendor.calls)
    found = smsq.send_sms.AsyncResult(message_id).revoke()
    assert found is not None
    assert (found.answer, found.state) == ("under_way", "sending")
    host.vendor.release()
    becomes(message_id, "accepted")
    assert len(host.vendor.calls) == 1


# Campaigns


def of_a_campaign(count: int, **options: str) -> list[str]:
    ids: list[str] = []
    rows = [{"phone": f"139{n:08}", "template": "SMS_1001"} for n in range(count)]
    smsq.send_many(rows, lane="notice", campaign=SPRING, on_batch=ids.extend, **options)
    return ids


def test_what_was_answered_cancelled_stays_so_though_each_worker_that_sweeps_is_killed(
    host: Machine,
) -> None:
    campaigns = Campaigns(host.client, host.rules)
    ids = of_a_campaign(200)  # More than Redis looks through at once.
    assert campaigns.do("cancel", SPRING) == ""
    other = lost_on_its_way(host)
    for _ in range(2):  # Each dies after a slice, and after it has woken up another's message.
        host.client.hset(keys.message(other), "published", 0)
        host.run_out(other)
        dies(host.start_worker("-Q", "sms.otp", **{VARIABLE: "after claim"}))
        assert set(read_states(host.client, "", ids)) == {"cancelled"}
        stored = [host.client.hget(keys.message(one), "state") for one in ids]
        assert 0 < stored.count("cancelled") < len(ids)
    host.start_worker()
    eventually(lambda: is_swept(host.client))
    assert {host.client.hget(keys.message(one), "state") for one in ids} == {"cancelled"}
    found = campaigns.read(SPRING)
    assert found is not None
    assert found.states == {"cancelled": len(ids)}
    becomes(other, "accepted")
    assert host.vendor.phones() == [PHONE]


def test_a_campaign_paused_and_resumed_over_deaths_is_sent_once_each_and_the_doubt_is_counted(
    host: Machine,
) -> None:
    campaigns = Campaigns(host.client, host.rules)
    worker = host.start_worker("--concurrency", "1", **{VARIABLE: "after admit"})
    ids = of_a_campaign(8)
    dies(worker)
    assert campaigns.do("pause", SPRING) == ""
    (dead,) = [one for one in ids if known(one).state == "sending"]
    # What it had in hand comes back to one that finds the campaign paused, and dies over that.
    host.run_out(dead)
    dies(host.start_worker(**{VARIABLE: "after claim"}))
    assert not host.vendor.calls
    assert campaigns.do("resume", SPRING) == "paused"
    # Whatever was in a dead worker's hand is missed at once.
    for one in ids:
        if known(one).state == "queued":
            host.client.hset(keys.message(one), "published", 0)
            host.run_out(one)
    host.start_worker()
    for one in ids:
        becomes(one, "accepted")
    assert len(host.vendor.calls) == len(ids)
    assert host.possible_duplicates() == 1
    found = campaigns.read(SPRING)
    assert found is not None
    assert found.states == {"accepted": len(ids)}
