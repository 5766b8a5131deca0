"""A worker's connection is lost while wake-ups wait in it and attempts are under way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis
from celery import Celery
from kombu.asynchronous import Hub
from kombu.exceptions import OperationalError

from harness.events import listening, of
from harness.faulty_line import Freezer
from harness.machine import ends
from harness.outage import Outage
from harness.remote import remote
from harness.waiting import eventually
from smsq import keys
from smsq_worker.celery_worker.events import MAX_EVENTS, QuietEventDispatcher


def crowd(outage: Outage, **environ: str) -> tuple[str, Sequence[str]]:
    """Have one attempt under way and three messages waiting in a worker; return their ids."""
    worker = outage.here.start_worker("--concurrency", "1", **environ)
    outage.here.vendor.withhold()
    first, *rest = (outage.send(f"m{n}") for n in range(4))
    eventually(lambda: outage.here.vendor.calls)
    with remote(outage.here, worker) as asked:
        eventually(lambda: (asked.active(), asked.reserved()) == ([first], rest))
    return first, rest


def is_back(outage: Outage) -> bool:
    """Tell whether the worker answers again, over new connections of both sides."""
    try:
        with remote(outage.here, outage.here.workers[0]) as asked:
            return bool(asked.inspect("ping"))
    except (AssertionError, OperationalError, redis.ConnectionError):
        return False


def each_once(outage: Outage, ids: Sequence[str]) -> None:
    for message_id in ids:
        assert len(outage.becomes(message_id, "accepted").attempts) == 1
    assert len(outage.here.vendor.calls) == len(ids)
    assert outage.here.possible_duplicates() == 0


@pytest.mark.parametrize("how", ["server restarted", "connections killed"])
def test_each_is_sent_once_and_none_is_shown_for_ever(outage: Outage, how: str) -> None:
    first, rest = crowd(outage)
    if how == "server restarted":
        outage.kill_redis()
        outage.restart_redis()
    else:
        outage.here.client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    eventually(lambda: is_back(outage))
    outage.here.vendor.release()
    each_once(outage, [first, *rest])
    with remote(outage.here, outage.here.workers[0]) as asked:
        eventually(lambda: asked.active() == asked.reserved() == [])
    assert not outage.here.client.exists("sms.notice", "unacked")
    assert "could not be told" not in outage.log()


def test_what_waited_is_given_back_after_its_connection_was_lost(outage: Outage) -> None:
    first, rest = crowd(outage)
    outage.kill_redis()
    outage.restart_redis()
    eventually(lambda: is_back(outage))
    outage.here.workers[0].terminate()
    eventually(lambda: outage.here.client.llen("sms.notice") == len(rest))
    outage.here.vendor.release()
    ends(outage.here.workers[0], 0)
    assert outage.status(first).state == "accepted"
    outage.here.start_worker("--concurrency", "1")
    each_once(outage, [first, *rest])


def run_out(outage: Outage, ids: Sequence[str]) -> None:
    """Let the timers run out of which the wake-ups may be lost; no worker may run."""
    for message_id in ids:
        outage.here.client.hset(keys.message(message_id), "published", 0)
        outage.here.run_out(message_id)


@pytest.mark.parametrize("again", ["not again", "again"])
def test_a_worker_asked_to_stop_while_redis_is_away_loses_nothing(
    outage: Outage, again: str
) -> None:
    first, rest = crowd(outage)
    outage.kill_redis()
    worker = outage.here.workers[0]
    worker.terminate()
    if again == "again":
        eventually(lambda: "Warm shutdown" in outage.log())
        worker.terminate()
        ends(worker, 1)
        outage.here.vendor.release()
    else:
        outage.here.vendor.release()
        ends(worker, 0)
    outage.restart_redis()
    run_out(outage, rest)
    outage.here.start_worker("--concurrency", "1")
    for message_id in rest:
        assert len(outage.becomes(message_id, "accepted").attempts) == 1
    outcomes = [attempt.outcome for attempt in outage.becomes(first, "accepted").attempts]
    assert outcomes == (["maybe_sent", "accepted"] if again == "again" else ["accepted"])
    assert len(outage.here.vendor.calls) == len(rest) + len(outcomes)


def test_a_worker_asked_to_stop_while_redis_is_frozen_loses_nothing(outage: Outage) -> None:
    first, rest = crowd(outage, SMSQ_CONNECT_TIMEOUT_S="0.2", SMSQ_READ_TIMEOUT_S="20")
    server = Freezer(outage.server, 0)
    server.freeze()
    try:
        outage.here.workers[0].terminate()
        eventually(lambda: "Warm shutdown" in outage.log())
        outage.here.vendor.release()
        outage.here.workers[0].wait(120)
    finally:
        server.thaw()
    run_out(outage, rest)
    outage.here.start_worker("--concurrency", "1")
    each_once(outage, [first, *rest])


class Consumer:
    """What a dispatcher needs of Celery's."""

    hub = Hub()

    def on_send_event_buffered(self) -> None:
        pass


def dispatcher_of(app: Celery) -> QuietEventDispatcher:
    return QuietEventDispatcher(
        app.connection_for_write(),
        hostname="here",
        app=app,
        on_send_buffered=Consumer().on_send_event_buffered,
    )


def test_events_are_kept_while_the_broker_is_away_the_oldest_are_dropped(outage: Outage) -> None:
    url, many = outage.here.environ["SMSQ_REDIS_URL"], MAX_EVENTS + 250
    with Celery(broker=url, set_as_current=False) as app:
        before = dispatcher_of(app)
        before.send("task-received", uuid="first")
        before.flush()
        outage.kill_redis()
        for n in range(many):
            before.send("task-received", uuid=f"{n}")
            if n % 1000 == 0:
                before.flush()
        outage.restart_redis()
        after = dispatcher_of(app)
        after.extend_buffer(before)
        with listening(url) as seen:
            after.flush()
            eventually(lambda: len(seen) >= MAX_EVENTS)
    assert [event["uuid"] for event in seen] == [f"{n}" for n in range(250, many)]


def test_what_is_under_way_and_what_comes_later_is_seen_after_an_outage(outage: Outage) -> None:
    worker = outage.here.start_worker("-E")
    outage.here.vendor.withhold()
    first = outage.send("m1")
    eventually(lambda: outage.here.vendor.calls)
    outage.kill_redis()
    outage.restart_redis()
    eventually(lambda: is_back(outage))
    with listening(outage.here.environ["SMSQ_REDIS_URL"]) as seen:
        outage.here.vendor.release()
        later = outage.send("m2")
        eventually(lambda: of(seen, first) and len(of(seen, later)) == 3)
        assert of(seen, first) == ["task-succeeded"]
        assert of(seen, later) == ["task-received", "task-started", "task-succeeded"]
    assert worker.poll() is None
