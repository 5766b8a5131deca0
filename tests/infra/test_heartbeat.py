"""A worker's sign of life, and the probe that looks for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest
import yaml

from harness.machine import Machine, ends
from harness.paths import OPS
from harness.waiting import eventually
from smsq_worker.config.settings import Settings
from smsq_worker.infra.heartbeat import Heartbeat
from smsq_worker.infra.ports import free_port
from smsq_worker.runtime import Runtime
from smsq_worker.scheduler.scheduler import Scheduler
from smsq_worker.sending.consumer_gate import ConsumerGate

WORKER = OPS / "kubernetes" / "worker.yaml"
LONG_S = 600


def probe(home: Path, host: str) -> bool:
    """Look as Kubernetes does."""
    stateful_set = next(yaml.safe_load_all(WORKER.read_text()))
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    command = container["livenessProbe"]["exec"]["command"]
    environ = {"PATH": os.environ["PATH"], "SMSQ_HOME": str(home), "HOSTNAME": host}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return done.returncode == 0


def test_a_worker_shows_that_it_lives_until_it_ends(host: Machine, tmp_path: Path) -> None:
    name = socket.gethostname()
    assert not probe(tmp_path / "home", name)
    worker = subprocess.Popen([sys.executable, "-m", "smsq_worker", "worker"], env=host.environ)
    host.workers.append(worker)
    eventually(lambda: probe(tmp_path / "home", name))
    assert not probe(tmp_path / "home", "another")
    file = tmp_path / "home" / "alive" / f"celery@{name}"
    long_ago = time.time() - LONG_S
    os.utime(file, (long_ago, long_ago))
    eventually(lambda: probe(tmp_path / "home", name))
    worker.terminate()
    ends(worker, 0)
    assert not file.exists()


def test_a_sign_that_is_old_is_none(tmp_path: Path) -> None:
    alive = Heartbeat(tmp_path, "celery@host")
    alive.beat()
    assert probe(tmp_path, "host")
    long_ago = time.time() - LONG_S
    os.utime(tmp_path / "alive" / "celery@host", (long_ago, long_ago))
    assert not probe(tmp_path, "host")


def test_a_worker_lives_while_redis_is_away(environ: dict[str, str], tmp_path: Path) -> None:
    away = environ | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    runtime = Runtime(Settings.load(away | {"SMSQ_HOME": str(tmp_path)}))
    scheduler = Scheduler(
        runtime.ledger,
        runtime.callbacks,
        runtime.backoff,
        runtime.result_spool,
        gate=ConsumerGate(),
        queues=object(),
    )
    stop, beats = Event(), list[float]()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 3:
            stop.set()

    scheduler.run(stop, (), beat)
    assert len(beats) == 3
    runtime.close()


def test_a_home_that_cannot_be_written_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alive").write_text("a file where a folder should be")
    alive = Heartbeat(tmp_path, "celery@host")
    alive.beat()
    alive.beat()
    # Threads that other tests left behind may log meanwhile.
    own = [one.getMessage() for one in caplog.records if one.name == Heartbeat.__module__]
    assert own == [f"{tmp_path}/alive/celery@host cannot be touched: File exists"]
