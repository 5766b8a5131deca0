"""No loop of ours ends, or hangs, while its process looks alive."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest
import redis
import requests
from kombu import Connection
from kombu.asynchronous import Hub

from harness.api import in_process
from harness.machine import ends, machine
from harness.scene import PHONE, Scene
from harness.waiting import eventually
from harness.wakeups import Source, send
from smsq import keys
from smsq.contract import Lane
from smsq_worker.api.app import create_api
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.clients import Callers
from smsq_worker.api.routes import Api
from smsq_worker.api.routes import __name__ as routes
from smsq_worker.api.server import configured
from smsq_worker.celery_worker.liveness import Liveness
from smsq_worker.celery_worker.liveness import __name__ as liveness
from smsq_worker.celery_worker.transport import Transport
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.doctor import machine as doctor
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.heartbeat import Heartbeat, Systemd
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Admitted, AttemptResult, Ledger
from smsq_worker.runtime import Runtime
from smsq_worker.scheduler.scheduler import Scheduler
from smsq_worker.sending.attempts import Attempts, Ended
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.wakeup import WakeUp

LONG_S = 600
ROOM = 1 << 30


# --- the clock ------------------------------------------------------------------------------


class OddQueues:
    """A broker in which something goes wrong that nobody has thought of."""

    wakeups = ""

    def __init__(self, odd: str = "") -> None:
        self.odd = odd
        self.published: list[str] = []

    def oldest(self) -> dict[Lane, list[str]]:
        if self.odd == "all":
            raise ZeroDivisionError(PHONE)
        return {}

    def is_full(self) -> bool:
        return False

    def waiting(self, queue: str) -> int:
        return 0

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        if self.odd in ids:
            raise ZeroDivisionError(PHONE)
        self.published += ids

    def publish_report(self, mid: str, stat: str) -> None:
        self.published.append(mid)

    def publish_callback(self, name: str) -> None:
        self.published.append(name)


@pytest.fixture
def runtime(environ: dict[str, str], tmp_path: Path) -> Iterator[Runtime]:
    runtime = Runtime(Settings.load(environ | {"SMSQ_HOME": str(tmp_path)}))
    yield runtime
    runtime.close()


def running(
    runtime: Runtime, queues: OddQueues, until: Callable[[], object]
) -> tuple[int, list[str]]:
    """Run a clock until something is so; return how often it gave a sign of life."""
    scheduler = Scheduler(
        runtime.ledger,
        runtime.callbacks,
        runtime.backoff,
        runtime.result_spool,
        gate=ConsumerGate(),
        queues=queues,
    )
    stop, beats = Event(), list[float]()
    beat = partial(lambda: beats.append(time.monotonic()))
    thread = Thread(target=scheduler.run, args=(stop, (OSError,), beat))
    thread.start()
    try:
        eventually(until)
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(30)
    return len(beats), queues.published


def overdue(scene: Scene, *names: str, **options: str) -> None:
    for at, name in enumerate(names, 1):
        scene.enter(name, **options)
        scene.client.hset(keys.message(name), "published", 0)
        scene.client.zadd(keys.TIMERS, {name: at})


def test_a_scheduler_goes_on_after_what_nobody_expected_and_publishes_the_rest(
    runtime: Runtime, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    overdue(scene, "m1", "m2")
    overdue(scene, "odd", lane="otp")
    runtime.ledger.take_in([("MID", "DELIVRD")], wake_after_s=0)
    queues = OddQueues("odd")
    _, published = running(runtime, queues, lambda: len(queues.published) == 3)
    assert published == ["m1", "m2", "MID"]
    told = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(told) == 1
    assert "ZeroDivisionError" in told[0]
    assert "publish_messages" in told[0]
    assert PHONE not in caplog.text


def test_a_scheduler_that_fails_each_time_says_so_once_and_gives_no_sign_of_life(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    class Counting(OddQueues):
        def oldest(self) -> dict[Lane, list[str]]:
            tries.append(1)
            return super().oldest()

    queues = Counting("all")
    beats, _ = running(runtime, queues, lambda: len(tries) == 3)
    assert beats == 0
    told = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(told) == 1


@pytest.mark.parametrize("key", [keys.TIMERS, keys.INBOX, keys.NOTICES])
def test_a_ledger_that_an_act_cannot_work_on_gives_no_sign_of_life(
    runtime: Runtime, client: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    client.set(key, "no set")
    beats, _ = running(runtime, OddQueues(), lambda: "LedgerFault" in caplog.text)
    assert beats == 0


def test_a_disk_in_trouble_keeps_no_timer_waiting(
    runtime: Runtime, scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "calls-1.ready").mkdir()
    (tmp_path / "spool" / "calls-1.bad").write_text("in the way of it")
    overdue(scene, "m1")
    queues = OddQueues()
    beats, published = running(runtime, queues, lambda: queues.published)
    assert (beats > 0, published) == (True, ["m1"])
    assert "the spool fails" in caplog.text


# --- signs of life --------------------------------------------------------------------------


def test_doctor_tells_a_stuck_scheduler_from_a_worker_that_was_killed(
    environ: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "alive"
    with machine(environ, tmp_path) as here:
        worker = here.start_worker()
        (file,) = eventually(lambda: [*folder.glob("*")])
        assert {finding.level for finding in doctor.check_schedulers(folder)} == {"ok"}
        worker.send_signal(signal.SIGSTOP)
        long_ago = time.time() - LONG_S
        os.utime(file, (long_ago, long_ago))
        stuck, _ = doctor.check_schedulers(folder)
        assert stuck.level == "error"
        assert f"the scheduler of {file.name} has been stuck for" in stuck.what
        worker.kill()
        ends(worker, -signal.SIGKILL)
        assert {finding.level for finding in doctor.check_schedulers(folder)} == {"ok"}


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_that_a_worker_is_ready_and_that_its_scheduler_goes(
    environ: dict[str, str], tmp_path: Path, abstract: bool
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = f"smsq-test-{os.getpid()}"
        systemd.bind(f"\0{name}" if abstract else str(tmp_path / "notify"))
        systemd.settimeout(60)
        told = f"@{name}" if abstract else str(tmp_path / "notify")
        with machine(environ | {"NOTIFY_SOCKET": told}, tmp_path) as here:
            worker = here.start_worker()
            assert systemd.recv(100) == b"READY=1\nWATCHDOG=1"
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            worker.terminate()
            ends(worker, 0)


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    Systemd().beat()
    monkeypatch.delenv("NOTIFY_SOCKET")
    Systemd().beat()
    alive = Heartbeat(tmp_path, "celery@here")
    alive.beat()
    (tmp_path / "alive" / "celery@here").unlink()
    alive.beat()
    assert (tmp_path / "alive" / "celery@here").exists()
    alive.end()
    assert not (tmp_path / "alive" / "celery@here").exists()


# --- the API's spool -----------------------------------------------------------------------


def door_of(settings: Settings, ledger: Ledger, client: redis.Redis, inbox: Inbox) -> Any:
    return create_api(
        Api(settings, ledger, client, inbox, Authenticator(Callers.load(None, ""))), None
    )


def test_an_api_brings_reports_in_whatever_one_of_them_raises(
    ledger: Ledger, client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = tmp_path / "reports-1-aa.ready"
    left.write_text(
        '{"reports": [["1", "DELIVRD"]]}\n{"reports": 7}\n{"mid": "2"}\n{"reports": [["3", 4]]}\n'
        'rubbish\n{"reports": [["5", "DELIVRD"]]}\n'
    )
    inbox = Inbox(ledger, Spool(tmp_path, "reports"), lambda _: None)
    stop = Event()
    thread = Thread(target=inbox.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: client.zcard(keys.INBOX) == 2)
        eventually(lambda: left.with_suffix(".bad").exists() and not left.exists())
        assert left.with_suffix(".bad").read_text().count("\n") == 4
        eventually(lambda: ledger.counters().get("set_aside:spooled_report") == 4)
        # And the next one comes in, too.
        (tmp_path / "reports-2-aa.ready").write_text('{"reports": [["6", "DELIVRD"]]}\n')
        eventually(lambda: client.zcard(keys.INBOX) == 3)
    finally:
        stop.set()
        thread.join(30)
    assert inbox.stuck_s() < 30
    (found,) = [f for f in doctor.check_spool(tmp_path, ROOM) if f.level == "error"]
    assert "1 files" in found.what


def test_an_api_whose_reports_no_act_takes_keeps_them_and_gives_no_sign_of_life(
    ledger: Ledger, client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(keys.INBOX, "no set")
    beats: list[float] = []
    inbox = Inbox(ledger, Spool(tmp_path, "reports"), lambda _: None)
    inbox.keep([("1", "DELIVRD")])
    stop = Event()
    thread = Thread(target=inbox.run, args=(stop, lambda: beats.append(inbox.stuck_s())))
    thread.start()
    try:
        eventually(lambda: "the spool fails" in caplog.text)
        assert (beats, inbox.stuck_s() > 1) == ([], True)
        client.delete(keys.INBOX)
        eventually(lambda: client.zcard(keys.INBOX) == 1 and beats)
    finally:
        stop.set()
        thread.join(30)


def test_a_disk_that_hangs_shows_in_readyz_and_doctor_and_answers_in_time(
    settings: Settings,
    ledger: Ledger,
    client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{routes}.STUCK_S", 1.0)
    monkeypatch.setattr("smsq_worker.infra.spool.LOCK_S", 0.1)
    reports = Spool(tmp_path, "reports")
    inbox = Inbox(ledger, reports, lambda _: None)
    reports.append({"reports": [["1", "DELIVRD"]]})
    stop = Event()
    thread = Thread(target=inbox.run, args=(stop,))
    with in_process(configured(door_of(settings, ledger, client, inbox), ())) as url:
        assert requests.get(f"{url}/readyz", timeout=60).status_code == 200
        bind = url.removeprefix("http://").partition(":")
        at = Settings.load({"SMSQ_API_BIND": f"127.0.0.1:{bind[2]}", "SMSQ_REPORT_TOKEN": "x" * 20})
        with reports._alone():  # As while fsync does not come back.
            thread.start()
            eventually(lambda: requests.get(f"{url}/readyz", timeout=60).status_code == 503)
            answer = requests.get(f"{url}/readyz", timeout=60).json()
            assert answer["msg"] == "reports in the spool do not come into Redis"
            assert [finding.level for finding in doctor.check_api(at)] == ["ok", "warning"]
            with pytest.raises(TimeoutError):
                reports.append({"reports": []})
            assert requests.get(f"{url}/healthz", timeout=60).status_code == 200
        # It comes back, and so does all else, by itself.
        eventually(lambda: requests.get(f"{url}/readyz", timeout=60).status_code == 200)
        assert client.zcard(keys.INBOX) == 1
        stop.set()
        thread.join(30)


def test_old_entries_in_a_spool_are_an_error(tmp_path: Path) -> None:
    left = tmp_path / "reports-1-aa.ready"
    left.write_text("{}\n")
    levels = {finding.level for finding in doctor.check_spool(tmp_path, ROOM)}
    assert levels == {"ok", "warning"}
    long_ago = time.time() - 2 * LONG_S
    os.utime(left, (long_ago, long_ago))
    (found,) = [
        finding for finding in doctor.check_spool(tmp_path, ROOM) if finding.level == "error"
    ]
    assert "the oldest for 20 min" in found.what


# --- the threads of calls -------------------------------------------------------------------


def test_a_system_that_gives_no_more_threads_leaves_a_call_to_its_lease_and_hangs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came: SimpleQueue[Sequence[Ended]] = SimpleQueue()

    def send(wakeup: WakeUp, message_id: str, admitted: Admitted) -> None:
        result = AttemptResult(message_id, admitted.attempt, Outcome.NOT_SENT, "")
        attempts.record_and_complete(Ended(wakeup, message_id, result))

    attempts = Attempts(send, came.put, 2)
    attempts.start()
    go = Admitted(1, "", "", "", None)

    def none_left(self: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        attempts.begin(WakeUp(Lane.BULK, ["m1"], Source()), "m1", go)
        (ended,) = came.get(timeout=60)
        assert ended.result is None
        assert attempts.free(Lane.OTP) == 2
    attempts.begin(WakeUp(Lane.BULK, ["m2"], Source()), "m2", go)
    (ended,) = came.get(timeout=60)
    assert isinstance(ended.result, AttemptResult)
    attempts.wait_for_all()


def test_a_lane_and_the_recorder_go_on_after_one_bad_item(runtime: Runtime, scene: Scene) -> None:
    class Bad(Source):
        def begins(self) -> None:
            raise OSError("for a test")

        acknowledge = begins

        def ends(self, word: str, detail: str) -> None:
            raise OSError("for a test")

    for name in ("m1", "m2"):
        scene.enter(name, lane="otp", phone=f"1380000000{name[1]}")
    runtime.sender.take(WakeUp(Lane.OTP, ["m1"], Bad()))
    send(runtime, "m2", Lane.OTP)
    # They are recorded in any order.
    eventually(lambda: "sending" not in {scene.state(name) for name in ("m1", "m2")})
    assert [len(scene.status(name).attempts) for name in ("m1", "m2")] == [1, 1]


@pytest.mark.parametrize("stuck", ["sending of lane otp", "recording results"])
def test_a_thread_that_stands_still_ends_the_heartbeat_until_it_goes_on(
    runtime: Runtime,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stuck: str,
) -> None:
    monkeypatch.setattr(f"{liveness}.STUCK_S", 0.2)
    where = runtime.ledger.admit_many if "lane" in stuck else runtime.ledger.record_many
    began, goes_on = Event(), Event()

    def hangs(*given: Any) -> Any:
        began.set()
        goes_on.wait(60)
        return where(*given)

    gate, file = ConsumerGate(), runtime.settings.home / "alive" / "celery@here"
    alive = Liveness(Heartbeat(runtime.settings.home, "celery@here"), runtime.sender, gate)
    scene.enter("m1", lane="otp")
    monkeypatch.setattr(runtime.ledger, where.__name__, hangs)
    source = Source()
    runtime.sender.take(WakeUp(Lane.OTP, ["m1"], source))
    assert began.wait(30)
    eventually(lambda: runtime.sender.longest_round()[1] > 0.2)
    # It may be this whole process that has stood still since the last beat.
    alive.beat()
    file.unlink()
    for _ in range(2):
        alive.beat()
    assert not file.exists()
    (told,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert told.getMessage().startswith(f"{stuck} has stood still for ")
    goes_on.set()
    source.came.get(timeout=30)
    eventually(lambda: runtime.sender.longest_round()[1] < 0)
    alive.beat()
    assert file.exists()


def test_a_loop_of_celery_that_stands_still_ends_the_heartbeat_until_it_goes_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{liveness}.STUCK_S", 0.2)
    gate, file = ConsumerGate(), runtime.settings.home / "alive" / "celery@here"
    alive = Liveness(Heartbeat(runtime.settings.home, "celery@here"), runtime.sender, gate)
    url, hub = runtime.settings.redis_url, Hub()
    with Connection(url, transport=Transport, transport_options={"gate": gate}) as connection:
        connection.channel()
        connection.transport.register_with_event_loop(connection.connection, hub)
        loop = hub.create_loop()
        next(loop)
        eventually(lambda: time.monotonic() - gate.loop_at > 0.2)
        alive.beat()
        file.unlink()
        alive.beat()
        assert not file.exists()
        assert "taking of messages has stood still for " in caplog.text
        next(loop)
        alive.beat()
        assert file.exists()
        # Celery does this before it seeks another connection.
        hub.close()
        assert gate.loop_at == math.inf
