"""A machine under a test's control: its workers can be killed, and its timers run out at will."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import redis

from harness.fork_server import same_start, server
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq import keys
from smsq.connection import connect
from smsq_worker.celery_worker.options import refused
from smsq_worker.config.rules import Rules
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.ledger import Ledger

QUICK = {
    "SMSQ_CONNECT_TIMEOUT_S": "1",
    "SMSQ_READ_TIMEOUT_S": "20",
    "SMSQ_LEASE_S": "120",
    "SMSQ_RETRY_FIRST_S": "0.1",
}


@dataclass
class Machine:
    """Workers as plain processes, and the ledger to look at."""

    environ: dict[str, str]
    vendor: VendorServer
    logs: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def client(self) -> redis.Redis:
        return connect(self.environ["SMSQ_REDIS_URL"])

    @property
    def rules(self) -> Rules:
        return Settings.load(self.environ).rules

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.client, self.rules)

    def start_worker(self, *options: str, **environ: str) -> subprocess.Popen[bytes]:
        own = self.environ | environ
        service = services.worker(own.get("SMSQ_BROKER_URL") or own["SMSQ_REDIS_URL"], own)
        with (self.logs / f"worker{len(self.workers)}.log").open("wb") as log:
            worker = started([*service.command, *options], service.environ, log)
        self.workers.append(worker)
        eventually(lambda: worker.poll() is not None or service.ready())
        return worker

    def run_out(self, message_id: str) -> None:
        """Let a message's timer run out now: an hour passes for it."""
        assert self.client.zscore(keys.TIMERS, message_id) is not None
        self.client.zadd(keys.TIMERS, {message_id: 0}, xx=True)

    def possible_duplicates(self) -> int:
        return self.ledger.counters().get("possible_duplicates", 0)


@contextmanager
def machine(environ: dict[str, str], folder: Path) -> Iterator[Machine]:
    with VendorServer() as vendor:
        own = {"SMSQ_GATEWAY_URL": vendor.url, "SMSQ_HOME": str(folder / "home")}
        running = Machine(environ | QUICK | own, vendor, folder)
        try:
            yield running
        finally:
            vendor.release()
            for worker in running.workers:
                if worker.poll() is None:
                    worker.kill()
                worker.wait(30)


def started(
    command: Sequence[str], environ: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a service, without the imports of a worker's where that makes no difference."""
    words = command[3:]
    if words[0] == "worker" and same_start(environ) and not refused(words[1:]):
        return server("workers").start(
            ["-A", "smsq_worker", *words], environ, log.fileno(), log.fileno()
        )
    return subprocess.Popen(command, env=dict(environ), stdout=log, stderr=log)


def ends(worker: subprocess.Popen[bytes], code: int) -> None:
    assert worker.wait(60) == code


def dies(worker: subprocess.Popen[bytes]) -> None:
    ends(worker, -signal.SIGKILL)
