"""Commands as processes of their own, forked from one that has imported what they need.

Importing is most of what a command costs, and hundreds of tests run some. A forked one has its own
memory, signals, exit code and files like one that was started; what it imports it finds there. What
depends on how the interpreter starts is started as usual: see `same_start`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, Final

from harness.paths import TESTS

TIMEOUT_S: Final = 60.0
_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "COVERAGE")
_AT_IMPORT: Final = frozenset({"SMSQ_TEST_KILL_AT"})
"""What modules of ours read while they are imported."""
_MAX: Final = 1 << 17


def same_start(environ: Mapping[str, str]) -> bool:
    """Return whether an interpreter with this environment starts as this one did.

    Elsewhere than on Linux none does: there is no socket of this kind.
    """
    if sys.platform != "linux" or not _AT_IMPORT.isdisjoint(environ):
        return False
    names = {name for name in (*environ, *os.environ) if name.startswith(_AT_START)}
    return all(environ.get(name) == os.environ.get(name) for name in names)


class ForkServer:
    """Runs commands of `smsq`. One for each process of tests."""

    def __init__(self) -> None:
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "harness.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=TESTS,
            )
        self._socket = own
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait(TIMEOUT_S)

    def run(
        self, words: Sequence[str], environ: Mapping[str, str], stdin: bytes | None
    ) -> tuple[int, bytes, bytes]:
        """Run `smsq` with these words; return its exit code, stdout and stderr."""
        reads = [os.pipe() for _ in range(2)]
        given, giving = os.pipe() if stdin is not None else (os.dup(0), -1)
        request = json.dumps([list(words), dict(environ), str(Path.cwd())]).encode()
        assert len(request) < _MAX
        fds = [given, *(end for _, end in reads)]
        socket.send_fds(self._socket, [request], fds)
        for fd in fds:
            os.close(fd)
        threads = [_Reading(read) for read, _ in reads]
        if stdin is not None:
            Thread(target=_write, args=(giving, stdin), daemon=True).start()
        self._socket.settimeout(TIMEOUT_S)
        child = int(self._socket.recv(100))
        try:
            code = int(self._socket.recv(100))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            self._socket.recv(100)
            raise subprocess.TimeoutExpired(["smsq", *words], TIMEOUT_S) from None
        out, err = (thread.result() for thread in threads)
        return code, out, err


class _Reading(Thread):
    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self._file = os.fdopen(fd, "rb")
        self._found = b""
        self.start()

    def run(self) -> None:
        with self._file:
            self._found = self._file.read()

    def result(self) -> bytes:
        self.join(TIMEOUT_S)
        return self._found


def _write(fd: int, data: bytes) -> None:
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except BrokenPipeError:
        pass


@cache
def server() -> ForkServer:
    """Return this process' server, which ends with it."""
    return ForkServer()


def _serve(fd: int) -> None:
    """Answer requests until the tests end. In a child it returns, and the command runs."""
    requests = socket.socket(fileno=fd)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, _MAX, 3)
        if not message:
            os._exit(0)
        child = os.fork()
        if not child:
            requests.close()
            _become(fds, *json.loads(message))
            return
        for one in fds:
            os.close(one)
        requests.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(fds: list[int], words: list[str], environ: dict[str, str], folder: str) -> None:
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    # Those that the server was started with remember whether they could be sought in.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        for number, mode, old in zip(
            range(3), "rww", (sys.stdin, sys.stdout, sys.stderr), strict=True
        )
    )
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["smsq", *words]
    # As `python -m smsq_worker` finds the sources, without the tests.
    sys.path[0] = folder


def _import_all() -> Any:
    for name in ("smsq_worker.cli.commands", "smsq_worker.cli.views", "smsq_worker.cli.helpers"):
        package = importlib.import_module(name)
        for info in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(info.name)
    return importlib.import_module("smsq_worker.cli").main


if __name__ == "__main__":
    main = _import_all()
    _serve(int(sys.argv[1]))
    main()
