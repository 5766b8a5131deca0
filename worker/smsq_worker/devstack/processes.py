"""Run several processes as one: started in order, stopped in reverse order, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from smsq.errors import SmsqError
from smsq_worker.infra.private_file import private_opener

START_TIMEOUT_S: Final = 60.0
# Longer than the longest gateway request, which a worker finishes.
STOP_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


class ServiceFailed(SmsqError):  # noqa: N818 - reads as a statement
    """A process exited, or did not become ready."""


@dataclass(frozen=True)
class Service:
    """A process to run; `ready` returns whether it can be used."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    ready: Callable[[], bool]
    lock: BinaryIO | None = None
    """A locked file that the process keeps open, so that the lock lasts for its life."""


class Stack:
    """Processes, each in its own session so that Ctrl-C reaches only their parent."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.is_interrupted = False
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self, service: Service) -> None:
        """Start a process and wait until it is ready. Raises ServiceFailed."""
        with open(self._log(service.name), "ab", opener=private_opener) as log:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                service.command,
                env=dict(service.environ),
                # What they write is nobody else's: Valkey's files hold numbers and codes.
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[service.lock.fileno()] if service.lock else [],
            )
        if service.lock:
            service.lock.close()
        self._running.append((service.name, process))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not service.ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceFailed(self._explain(service.name, "did not become ready"))
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise ServiceFailed if a process has exited, KeyboardInterrupt if all are to stop."""
        if self.is_interrupted:
            raise KeyboardInterrupt
        for name, process in self._running:
            if process.poll() is not None:
                raise ServiceFailed(self._explain(name, f"exited with {process.returncode}"))

    def stop(self) -> None:
        """Terminate all in reverse order, and kill what does not exit in time."""
        while self._running:
            _, process = self._running.pop()
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
            finally:
                # Its own children share its session, and so its process group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def _explain(self, name: str, what: str) -> str:
        tail = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        return "\n".join([f"{name} {what}; the end of {self._log(name)}:", *tail])


@contextmanager
def stopping(stack: Stack) -> Iterator[Stack]:
    """Stop a stack on exit, whatever the reason; SIGTERM and SIGHUP act like Ctrl-C."""

    def interrupt(*_: object) -> None:
        # Python ignores what is raised in a weak reference's callback, so `check` raises it again.
        stack.is_interrupted = True
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stack
    finally:
        # An impatient second Ctrl-C must not leave processes behind.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        stack.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
