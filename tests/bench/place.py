"""The machine under load: Redis, the gateway, workers, and what is asked of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
from celery import Celery
from kombu import pools

import smsq
from bench.figures import Arrival
from bench.product import ACCOUNT, Control, Ledger, Service, Settings, free_port, services
from bench.server import Server
from bench.tree import THIS, Tree
from harness.waiting import eventually
from smsq import keys
from smsq.connection import connect

START_S = 120.0
SAMPLE_S = 0.4
"""Often enough to see every decision: the ledger keeps those of the last second."""

ASKED_S = 1.0
"""How long workers are waited for that are asked something."""


@dataclass(frozen=True)
class Used:
    """What has been used so far."""

    machine_cpu_s: float
    """By all that runs on this machine, ours or not, and the share that it was denied."""
    worker_cpu_s: float
    redis_cpu_s: float
    acts: int
    """Scripts run by the ledger."""
    appended_bytes: int
    """What Redis has written to its append-only file, where it was not rewritten."""


class Gateway:
    """The gateway's process, by its control path."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self._session = requests.Session()
        self._session.trust_env = False

    def set(self, **values: object) -> float:
        """Say how it answers from now on; give the time."""
        return float(self._ask("_set", values)["at"])

    def clear(self) -> None:
        """Forget the calls."""
        self._ask("_clear", {})

    def calls(self, start: int = 0) -> list[Arrival]:
        """Give the calls noted, from one of them on."""
        return [Arrival(*row) for row in self._ask("_log", {"start": start})["calls"]]

    def lag_s(self) -> float:
        """Give how late the gateway's process itself was at the worst."""
        return float(self._ask("_log", {"start": 1 << 40})["lag_s"])

    def answers(self) -> bool:
        """Tell whether it is up."""
        try:
            return bool(self._ask("_now", {}))
        except requests.RequestException:
            return False

    def _ask(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        told = self._session.post(self.url + path, params=query, timeout=30)
        return dict(told.json())


class Place:
    """Everything that runs. One server and one gateway serve all scenarios, emptied between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gateway = Gateway(free_port())
        self._workers: list[subprocess.Popen[bytes]] = []
        self._besides: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._nodes: list[str] = []
        self._given_back = 0
        self._name = ""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
        self._kept, self.environ = kept, dict(kept)
        self.server = Server(folder, kept)

    @contextmanager
    def running(self) -> Iterator[Place]:
        """Start what all scenarios share, and end everything."""
        try:
            self.server.start()
            command = [sys.executable, "-m", "bench.gateway", str(self.gateway.port)]
            self._others.append(self._process("gateway", Service("", command, self._kept, bool)))
            eventually(self.gateway.answers)
            # The producer reads the process' own environment, once.
            for name in set(os.environ) - set(self._kept):
                del os.environ[name]
            os.environ["SMSQ_REDIS_URL"] = f"{self.server.url}/0"
            yield self
        finally:
            self.stop_workers()
            for process in self._others:
                process.kill()
                process.wait()
            self.server.end()

    def fresh(self, name: str, tree: Tree = THIS, **settings: object) -> None:
        """Begin a scenario: nothing is left of the one before. Sending is paused.

        What is started from then on runs the code of `tree`.
        """
        self._name = name
        self.environ = (
            self._kept
            | tree.environ()
            | {
                "SMSQ_REDIS_URL": f"{self.server.url}/0",
                "SMSQ_GATEWAY_URL": self.gateway.url,
                "SMSQ_APP_SECRET": "bench",
                "SMSQ_HOME": str(self.folder / name),
                **{key: str(value) for key, value in settings.items()},
            }
        )
        rules = Settings.load(self.environ).rules
        self.client = connect(self.environ["SMSQ_REDIS_URL"])
        self.client.flushall()
        self.ledger, self.control = Ledger(self.client, rules), Control(self.client, rules)
        self._given_back = 0
        # So that all workers begin at once.
        self.control.pause(ACCOUNT, "until all workers are there")
        self.gateway.set(mode="ok", latency=0.1)
        self.gateway.clear()

    def start_workers(self, count: int) -> None:
        """Start workers side by side, each with a secret of its own, by which calls are told."""
        started = []
        for n in range(count):
            own = self.environ | {"SMSQ_APP_SECRET": f"worker{n}"}
            service = services.worker(own["SMSQ_REDIS_URL"], own)
            self._nodes.append(service.command[service.command.index("--hostname") + 1])
            process = self._process(f"{self._name}-worker{n}", service)
            self._workers.append(process)
            started.append((process, service))
        for process, service in started:
            eventually(lambda p=process, s=service: p.poll() is not None or s.ready(), START_S)
            assert process.poll() is None, f"a worker ended, see {self.folder}"

    def start(self, service: Service) -> None:
        """Start a process besides, which ends with the workers."""
        process = self._process(f"{self._name}-{service.name}", service)
        self._besides.append(process)
        eventually(lambda: process.poll() is not None or service.ready(), START_S)
        assert process.poll() is None, f"the {service.name} ended, see {self.folder}"

    def pid_of_last(self) -> int:
        """Give the process that was started last besides the workers."""
        return self._besides[-1].pid

    def stop_workers(self) -> None:
        """Kill the workers: what they did is in the ledger."""
        for process in (*self._workers, *self._besides):
            process.kill()
            process.wait()
        self._workers.clear()
        self._besides.clear()
        self._nodes.clear()

    def begin(self) -> float:
        """Let the workers send; give the time of the first call."""
        self.control.resume(ACCOUNT, "all workers are there")
        self._given_back = self._requeued()
        return eventually(self.gateway.calls, START_S)[0].at

    def pause(self, words: str) -> None:
        """Stop sending; what the workers hold comes back into the queues."""
        self.control.pause(ACCOUNT, words)
        self._given_back += 1  # it is told in the way in which wake-ups are given back

    def enqueue(self, count: int, lane: str, first: int = 0) -> dict[str, str]:
        """Enqueue messages to as many numbers; give the ids by number."""
        phones = [f"139{n:08}" for n in range(first, first + count)]
        return {p: smsq.send_sms.delay(p, "SMS_1001", "482913", lane=lane).id for p in phones}

    def used(self) -> Used:
        """Read what has been used."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._workers]
        info: Any = self.client.info("cpu")
        stats: Any = self.client.info("commandstats")
        file: Any = self.client.info("persistence")
        machine = psutil.cpu_times()._asdict()
        # Guests' time is in the users' too.
        resting = ("idle", "iowait", "guest", "guest_nice")
        return Used(
            sum(time for name, time in machine.items() if name not in resting),
            sum(one.user + one.system for one in times),
            info["used_cpu_user"] + info["used_cpu_sys"],
            sum(_called(stats, command) for command in ("eval", "evalsha", "fcall")),
            file["aof_current_size"],
        )

    def watch_decisions(self, until: float) -> set[float]:
        """Give the times at which the ledger let calls go, on its own clock, until then."""
        seen = set[tuple[str, float]]()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_S))
            seen.update(self.client.zrange(keys.CALLS, 0, -1, withscores=True))
        return {us / 1e6 for _, us in seen}

    def ways(self, calls: list[Arrival], ids: dict[str, str]) -> list[float]:
        """Give each call's time from the ledger's decision to the gateway.

        Up to 1 ms too long, because the ledger's times are whole milliseconds.
        """
        with self.client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.hget(keys.message(ids[call.phone]), "1:at")
            times = pipe.execute()
        return [call.wall - int(at) / 1000 for call, at in zip(calls, times, strict=True)]

    def count(self, state: str) -> int:
        """Count messages that came to a state."""
        counters = self.ledger.counters()
        return sum(n for name, n in counters.items() if name.endswith(f":{state}"))

    def left(self) -> int:
        """Count the messages that are still to be sent."""
        live = self.control.live()
        return sum(n for name, n in live.items() if name.endswith((":queued", ":deferred")))

    def log_lines(self, *words: str) -> list[str]:
        """Give the lines of the workers' logs that hold one of these words."""
        logs = sorted(self.folder.glob(f"{self._name}-worker*.log"))
        lines = (line for log in logs for line in log.read_text(errors="replace").splitlines())
        return [line for line in lines if any(word in line for word in words)]

    def errors(self) -> list[str]:
        """Give the errors in the workers' logs."""
        return self.log_lines(" ERROR ", " CRITICAL ", "Exception in thread")

    def alerts(self) -> list[str]:
        """Give the pauses in the workers' logs, without our own at the beginning."""
        return [line for line in self.log_lines(": paused ") if "(operator)" not in line]

    def given_back(self) -> int:
        """Count how often a wake-up was taken and given back, since the workers began.

        It goes back to the end from which wake-ups are taken, while all else enters at the other.
        A pause that a worker begins or ends is told in the same way, and counted with them.
        """
        return max(0, self._requeued() - self._given_back)

    def _requeued(self) -> int:
        return _called(self.client.info("commandstats"), "rpush")

    def wakeups_done(self) -> int:
        """Count the wake-ups of messages and batches that workers have begun and not given back.

        As Celery itself counts them, so that nothing depends on what workers log.
        """
        # kombu keeps producers by URL, also over connections of before a server's restart.
        pools.reset()
        with Celery(broker=self.environ["SMSQ_REDIS_URL"], set_as_current=False) as app:
            told = app.control.inspect(self._nodes, timeout=ASKED_S).stats() or {}
        begun = sum(
            count
            for one in told.values()
            for name, count in one["total"].items()
            if name.startswith("smsq.send_")
        )
        return max(0, begun - self.given_back())

    def versions(self) -> str:
        """Say which server it is."""
        info: Any = self.client.info("server")
        return f"valkey {info.get('valkey_version', info['redis_version'])}, redis-py " + (
            redis.__version__
        )

    def _process(self, name: str, service: Service) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                service.command,
                env=dict(service.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _called(stats: Any, command: str) -> int:
    """Give how often Redis has run a command, in scripts too."""
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))


def own_throughput(gateway: Gateway, seconds: float = 1.0, connections: int = 8) -> float:
    """Measure how many calls a second the gateway takes, by raw kept-alive connections.

    The caller shares the machine, so the gateway alone would take more.
    """
    request = (
        b"GET /?mobphone=13900000000&code=1&smstemplate=S HTTP/1.1\r\nAuthorization: x\r\n\r\n"
    )
    gateway.set(mode="ok", latency=0)
    sockets = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(connections)]
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for one in sockets:
            one.sendall(request)
        for one in sockets:
            done += bool(one.recv(65536))
    for one in sockets:
        one.close()
    gateway.clear()
    gateway.set(latency=0.1)
    return done / seconds
