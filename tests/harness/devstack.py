"""`smsq up`, run as a person runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

BINDS = ("SMSQ_SANDBOX_BIND", "SMSQ_API_BIND", "SMSQ_FLOWER_BIND")
SMSQ = (sys.executable, "-m", "smsq_worker")
PATIENCE_S = 30.0
"""Only a fault reaches it."""
STOP_S = 200.0


@dataclass
class Up:
    """A `smsq up` that is ready."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    """As it tells them: what, where."""


@contextmanager
def up(environ: dict[str, str]) -> Iterator[Up]:
    """Run `smsq up` until it is ready; at the end, end it by Ctrl-C and see nothing left."""
    command = [*SMSQ, "up", "--redis-port", "0"]
    with (
        heeded(signal.SIGINT),
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process,
        ended(process),
    ):
        assert process.stdout is not None
        addresses = {}
        for line in process.stdout:
            if line.startswith("Ready"):
                break
            what, where = line.split()[:2]
            addresses[what] = where
        children = psutil.Process(process.pid).children(recursive=True) if addresses else []
        try:
            assert addresses
            yield Up(process, addresses)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
        assert process.returncode == 0
        assert len(children) >= 4
        _, left = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not left


@contextmanager
def heeded(number: signal.Signals) -> Iterator[None]:
    """Let processes that are started heed a signal, though these tests may have to ignore it.

    A shell has the jobs of its background ignore SIGINT, and a process inherits that.
    """
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave nothing behind, even if a test fails."""
    try:
        yield
    finally:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
