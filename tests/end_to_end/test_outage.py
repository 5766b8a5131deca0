"""Redis goes away under a working worker, and comes back."""

from __future__ import annotations

from harness.faulty_line import Freezer
from harness.machine import ends
from harness.outage import Outage
from harness.waiting import eventually
from smsq import keys


def test_an_answer_that_comes_while_redis_is_away_is_recorded_when_it_is_back(
    outage: Outage,
) -> None:
    outage.here.start_worker()
    message_id = outage.spools_an_answer()
    outage.restart_redis()
    status = outage.becomes(message_id, "accepted")
    assert [attempt.outcome for attempt in status.attempts] == ["accepted"]
    assert len(outage.here.vendor.calls) == 1
    assert outage.here.possible_duplicates() == 0

    # And the same worker goes on consuming.
    assert outage.here.workers[0].poll() is None
    outage.becomes(outage.send("m2"), "accepted")


def test_an_answer_outlives_its_worker_while_redis_is_away(outage: Outage) -> None:
    worker = outage.here.start_worker()
    message_id = outage.spools_an_answer()
    worker.kill()
    worker.wait(30)
    outage.restart_redis()
    assert outage.status(message_id).state == "sending"
    outage.here.start_worker()
    outage.becomes(message_id, "accepted")
    assert len(outage.here.vendor.calls) == 1
    assert outage.here.possible_duplicates() == 0


def test_a_spooled_answer_cancels_the_resend_that_its_lease_had_brought(outage: Outage) -> None:
    worker = outage.here.start_worker()
    message_id = outage.spools_an_answer()
    worker.kill()
    worker.wait(30)
    outage.restart_redis()
    outage.here.run_out(message_id)
    outage.here.ledger.claim(resend_wait_s=3600, empty=[])
    assert outage.status(message_id).state == "deferred"
    outage.here.start_worker()
    outage.becomes(message_id, "accepted")
    assert len(outage.here.vendor.calls) == 1
    assert outage.here.possible_duplicates() == 0


def test_a_worker_can_be_stopped_while_redis_is_away(outage: Outage) -> None:
    worker = outage.here.start_worker()
    message_id = outage.spools_an_answer()
    worker.terminate()
    ends(worker, 0)
    outage.restart_redis()
    outage.here.start_worker()
    outage.becomes(message_id, "accepted")
    assert len(outage.here.vendor.calls) == 1


def test_a_worker_whose_redis_is_silent_ends_in_time_with_every_result_on_the_disk(
    outage: Outage,
) -> None:
    brief = {"SMSQ_CONNECT_TIMEOUT_S": "0.2", "SMSQ_READ_TIMEOUT_S": "6"}
    worker = outage.here.start_worker(**brief)
    outage.here.vendor.withhold()
    ids = [outage.send(f"m{n}") for n in range(8)]
    eventually(lambda: len(outage.here.vendor.calls) == 8)
    server = Freezer(outage.server, 0)
    server.freeze()
    try:
        worker.terminate()
        outage.here.vendor.release()
        assert worker.wait(60) in {0, 1}, "1 where it was cut off, which a slow machine may need"
    finally:
        server.thaw()
    outage.here.start_worker()
    for message_id in ids:
        assert len(outage.becomes(message_id, "accepted").attempts) == 1
    assert len(outage.here.vendor.calls) == 8
    assert outage.here.possible_duplicates() == 0


def test_a_schedule_survives_restarts_of_everything(outage: Outage) -> None:
    worker = outage.here.start_worker()
    seconds, _ = outage.here.client.time()
    message_id = outage.send("m1", send_at=seconds + 3 * 86_400)
    outage.here.client.zadd(keys.TIMERS, {message_id: (seconds + 3 * 86_400) * 1000})
    worker.kill()
    worker.wait(30)
    outage.kill_redis()
    outage.restart_redis()
    outage.here.start_worker()
    assert outage.status(message_id).state == "deferred"
    assert not outage.here.vendor.calls
    outage.here.run_out(message_id)
    outage.becomes(message_id, "accepted")
