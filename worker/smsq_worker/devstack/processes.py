"""Running several processes as one: started in order, stopped in the reverse order, none left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smsq.errors import SmsqError

START_TIMEOUT_S: Final = 60.0
# Longer than the longest call of the gateway, which a worker finishes.
STOP_TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.05


class ServiceFailed(SmsqError):  # noqa: N818 - says what is so
    """A process ended by itself, or did not become ready."""


@dataclass(frozen=True)
class Service:
    """A process to run; `ready` tells whether it can be used."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    ready: Callable[[], bool]


class Stack:
    """Processes, each in a session of its own so that Ctrl-C reaches only their parent."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, service: Service) -> None:
        """Start a process and wait until it is ready. Raises ServiceFailed."""
        with self._log(service.name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                service.command,
                env=dict(service.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append((service.name, process))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not service.ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceFailed(self._explain(service.name, "did not become ready"))
            time.sleep(LOOK_S)

    def check(self) -> None:
        """Raise ServiceFailed where a process has ended."""
        for name, process in self._running:
            if process.poll() is not None:
                raise ServiceFailed(self._explain(name, f"ended with {process.returncode}"))

    def stop(self) -> None:
        """Stop all in the reverse order: each is asked, and killed if it does not comply."""
        while self._running:
            _, process = self._running.pop()
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
            finally:
                # What it started itself shares its session, and so its process group.
                _kill_group(process)

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def _explain(self, name: str, what: str) -> str:
        tail = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        return "\n".join([f"{name} {what}; the end of {self._log(name)}:", *tail])


@contextmanager
def stopping(stack: Stack) -> Iterator[Stack]:
    """Stop a stack at the end, however that comes; SIGTERM and SIGHUP end it like Ctrl-C."""
    before = {
        number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stack
    finally:
        # An impatient second Ctrl-C must not leave processes behind.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        stack.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
