"""Take the primary away under load, and hold the ledger against the gateway's own log.

    make failover MESSAGES=5000 SECONDS=100 KILLS=3
    python -m soak.failover --messages 5000 --seconds 100 --kills 3

A producer, workers and the API go on through Sentinels, and none of them is restarted. What
asynchronous replication has lost is named. `--freeze` stops the primary instead of killing it,
`--wait-replicas` and `--min-replicas` set what smsq and Redis have against loss.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import requests
from celery.utils import uuid

import smsq
from harness.replicated import Servers
from harness.waiting import eventually
from smsq import keys
from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.config.settings import Settings
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Service
from smsq_worker.infra.ports import free_port
from smsq_worker.ledger import Ledger
from soak import SETTINGS, TOKEN, Result, compare, patiently, read_journals

SETTLED_AFTER_S = 12.0
"""Between two losses: the Sentinels let the lost server in again, as a replica."""


@dataclass(frozen=True)
class Plan:
    """How large, how long, and what is set against loss."""

    messages: int = 300
    seconds: float = 8.0
    workers: int = 2
    kills: int = 1
    freeze: bool = False
    wait_replicas: int = 1
    min_replicas: int = 0
    hurry: bool = False
    """Let timers run out at once in the end."""
    settle_s: float = 180.0


@dataclass
class Silence:
    """How long nothing came, at the longest."""

    longest_s: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        """Note that something came."""
        now = time.monotonic()
        self.longest_s = max(self.longest_s, now - self._since)
        self._since = now


class Stage:
    """All processes of a failover."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.servers = Servers(folder, min_replicas=plan.min_replicas)
        api, box = free_port(), free_port()
        self.journal = folder / "accepted.jsonl"
        self._plan = plan
        self._folder = folder
        self._box, self._door = f"http://127.0.0.1:{box}/", f"http://127.0.0.1:{api}/"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
        own = {
            "SMSQ_REDIS_URL": self.servers.url,
            "SMSQ_REDIS_WAIT_REPLICAS": str(plan.wait_replicas),
            "SMSQ_GATEWAY_URL": self._box,
            "SMSQ_SANDBOX_BIND": f"127.0.0.1:{box}",
            "SMSQ_API_BIND": f"127.0.0.1:{api}",
            "SMSQ_SANDBOX_REPORT_URL": f"{self._door}reports/{TOKEN}",
            "SMSQ_HOME": str(folder / "home"),
        }
        self.environ = kept | SETTINGS | own
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.calls: Silence

    @contextmanager
    def running(self) -> Iterator[Stage]:
        """Start everything, and end it."""
        with self.servers.start():
            try:
                options = ["--report-delay", "0.2"]
                sandbox = services.sandbox(self._box, self.environ, options)
                command = [*sandbox.command, "--log", str(self.journal)]
                self._start(
                    replace(sandbox, command=command),
                    services.api(self._door, self.environ),
                    *(
                        services.worker(self.servers.url, self.environ)
                        for _ in range(self._plan.workers)
                    ),
                )
                yield self
            finally:
                for process in self.processes.values():
                    process.kill()
                    process.wait()

    def accepted(self) -> dict[str, int]:
        """Give the gateway's own count of accepted calls by number."""
        return dict(requests.get(f"{self._box}sandbox/accepted", timeout=10).json()["numbers"])

    def listen(self, stop: Event) -> None:
        """Measure how long the gateway hears nothing while there is much to send."""
        before, self.calls = 0, Silence()
        while before < 0.9 * self._plan.messages and not stop.wait(0.05):
            count = len(self.accepted())
            if count != before:
                self.calls.heard()
            before = count

    def lose_primaries(self, stop: Event) -> None:
        """Take the primary away, now and then, and give the server back as a replica."""
        for n in range(self._plan.kills):
            if stop.wait(SETTLED_AFTER_S if n else self._plan.seconds / 4):
                return
            freeze = self._plan.freeze
            port = self.servers.lose_primary(signal.SIGSTOP if freeze else signal.SIGKILL)
            while self.servers.primary() == port:
                time.sleep(0.05)
            if freeze:
                self.servers.running[port].send_signal(signal.SIGCONT)
                self.servers.until_replica(port)
            else:
                self.servers.running[port].wait()
                self.servers.start_server(port)

    def dead(self) -> list[str]:
        """Name the processes that have ended by themselves."""
        return [name for name, process in self.processes.items() if process.poll() is not None]

    def _start(self, *services: Service) -> None:
        named = {f"{service.name}{n}": service for n, service in enumerate(services)}
        for name, service in named.items():
            with self._log(name).open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    service.command, env=dict(service.environ), stdout=log, stderr=log
                )
        for name, service in named.items():
            try:
                eventually(service.ready)
            except AssertionError:
                ended = self.processes[name].poll()
                wrote = self._log(name).read_text()[-4000:]
                raise AssertionError(
                    f"{name} is not ready ({ended=}), it wrote:\n{wrote}"
                ) from None

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@dataclass
class Outcome:
    """What a failover came to."""

    result: Result
    refused: int
    dead: list[str]
    enqueue_silence_s: float
    call_silence_s: float

    def good(self, plan: Plan) -> bool:
        """Tell whether every promise was kept: without waiting, replication may lose messages."""
        found = self.result
        broken = found.stuck or found.untrue or self.dead or (plan.wait_replicas and found.lost)
        return not broken and found.duplicates <= found.doubts_counted

    def lines(self) -> Iterator[str]:
        """Describe it."""
        yield from self.result.lines()
        yield f"delay() refused     {self.refused}"
        yield f"nothing enqueued    {self.enqueue_silence_s:.1f} s at the longest"
        yield f"nothing sent        {self.call_silence_s:.1f} s at the longest"
        yield f"ended by themselves {self.dead}"


def enqueue(plan: Plan) -> tuple[dict[str, str], int, Silence]:
    """Enqueue all messages, each until it is taken; give numbers by id, and refusals."""
    began, sent, refused, silence = time.monotonic(), dict[str, str](), 0, Silence()
    for n in range(plan.messages):
        phone, message_id = f"13{n:05}8000", uuid()
        while message_id not in sent:
            try:
                smsq.send_sms.apply_async((phone, "SMS_1001", "482913"), task_id=message_id)
                sent[message_id] = phone
                silence.heard()
            except LedgerUnavailable:
                refused += 1
                time.sleep(0.05)
        time.sleep(max(0, began + plan.seconds * n / plan.messages - time.monotonic()))
    return sent, refused, silence


def settle(plan: Plan, stage: Stage, sent: dict[str, str]) -> dict[str, smsq.Status | None]:
    """Wait until nothing more will happen to any message."""
    deadline = time.monotonic() + plan.settle_s
    statuses: dict[str, smsq.Status | None] = {}
    left = set(sent)
    while left and time.monotonic() < deadline:
        time.sleep(2)
        statuses = {one: patiently(lambda i=one: smsq.status(i)) for one in sent}
        left = {one for one, status in statuses.items() if not _is_settled(status)}
        if plan.hurry and left:
            stage.servers.client.zadd(keys.TIMERS, dict.fromkeys(left, 0), xx=True)
    return statuses


def _is_settled(status: smsq.Status | None) -> bool:
    return status is None or status.final or status.state == State.HELD


def failover(plan: Plan, folder: Path) -> Outcome:
    """Run it in a folder."""
    with Stage(plan, folder).running() as stage:
        os.environ.update({k: v for k, v in stage.environ.items() if k.startswith("SMSQ_")})
        loaded, ended = Event(), Event()
        listening = Thread(target=stage.listen, args=(loaded,))
        losing = Thread(target=stage.lose_primaries, args=(ended,))
        for thread in (listening, losing):
            thread.start()
        try:
            sent, refused, silence = enqueue(plan)
            losing.join()
        finally:
            for event, thread in ((ended, losing), (loaded, listening)):
                event.set()
                thread.join()
        statuses = settle(plan, stage, sent)
        result = compare(sent, statuses, read_journals(stage.journal))
        rules = Settings.load(stage.environ).rules
        counters = Ledger(stage.servers.client, rules).counters()
        result.doubts_counted = counters.get("possible_duplicates", 0)
        result.faults["primary"] = plan.kills
        return Outcome(result, refused, stage.dead(), silence.longest_s, stage.calls.longest_s)


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--wait-replicas", type=int, default=Plan.wait_replicas)
    parser.add_argument("--min-replicas", type=int, default=0)
    parser.add_argument("--hurry", action="store_true")
    plan = Plan(**vars(parser.parse_args()))
    folder = Path(tempfile.mkdtemp(prefix="smsq-failover-"))
    outcome = failover(plan, folder)
    sys.stdout.write(f"{plan}\nlogs in {folder}\n" + "\n".join(outcome.lines()) + "\n")
    sys.exit(0 if outcome.good(plan) else 1)


if __name__ == "__main__":
    main()
