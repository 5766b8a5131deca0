"""The product's own embedded server, as a process that can be renewed and restarted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.product import free_port, services
from harness.waiting import eventually

LOAD_S = 300.0
"""More than the longest append-only file of the bench takes to be read."""


class Server:
    """A Valkey as `smsq up` runs it, with its data under `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._service = services.redis_server(free_port(), folder / "redis", environ)
        port = self._service.command[self._service.command.index("--port") + 1]
        self.url = f"redis://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until its data is loaded."""
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._service.command,
                env=dict(self._service.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: self._service.ready() or self._ended(), LOAD_S)
        assert not self._ended(), f"the server ended, see {self._folder}"

    def stop(self) -> None:
        """End it as an operator does; what it was told is on the disk."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            finally:
                self._process.kill()
                self._process.wait()
            self._process = None

    def renew(self) -> None:
        """Start a new one on the same port, without data."""
        self.end()
        self.start()

    def end(self) -> None:
        """Kill it, and remove its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder / "redis", ignore_errors=True)
        (self._folder / "redis").mkdir(parents=True)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None
