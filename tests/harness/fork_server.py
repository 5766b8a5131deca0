"""Commands and workers as processes of their own, forked from one that has imported what they need.

Importing is most of what a command costs, and hundreds of tests run some. A forked one has its own
memory, signals, exit code and files like one that was started; what it imports it finds there. What
depends on how the interpreter starts is started as usual: see `same_start`.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Final, Literal

from harness.paths import TESTS
from smsq import failpoints

TIMEOUT_S: Final = 60.0
_AT_START: Final = ("PYTHON", "LC_", "LANG", "TZ", "COVERAGE")
_NOT_BEFORE: Final = frozenset({"smsq_worker.celery_worker.flower_config"})
"""What is Flower's to import."""
_MAX: Final = 1 << 17


def same_start(environ: Mapping[str, str]) -> bool:
    """Return whether an interpreter with this environment starts as this one did.

    Elsewhere than on Linux none does: there is no socket of this kind.
    """
    if sys.platform != "linux":
        return False
    names = {name for name in (*environ, *os.environ) if name.startswith(_AT_START)}
    return all(environ.get(name) == os.environ.get(name) for name in names)


class ForkServer:
    """Runs commands of `smsq`, or workers. One of each for each process of tests."""

    def __init__(self, kind: Literal["commands", "workers"]) -> None:
        own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        strict = ["-W", "error"] if kind == "commands" else []
        name, number = "harness.fork_server", str(theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *strict, "-m", name, kind, number],
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
        """Run a command with these words; return its exit code, stdout and stderr."""
        reads = [os.pipe() for _ in range(2)]
        given, giving = os.pipe() if stdin is not None else (os.dup(0), -1)
        fds = [given, *(end for _, end in reads)]
        self._ask("run", words, environ, fds)
        for fd in fds:
            os.close(fd)
        threads = [_Reading(read) for read, _ in reads]
        if stdin is not None:
            Thread(target=_write, args=(giving, stdin), daemon=True).start()
        child = int(self._socket.recv(100))
        try:
            code = int(self._socket.recv(100))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            self._socket.recv(100)
            raise subprocess.TimeoutExpired(["smsq", *words], TIMEOUT_S) from None
        out, err = (thread.result() for thread in threads)
        return code, out, err

    def start(
        self, words: Sequence[str], environ: Mapping[str, str], out: int, err: int
    ) -> subprocess.Popen[bytes]:
        """Start a process that is a child of this one, and writes to these files."""
        with Path(os.devnull).open("rb") as nothing, _adopting():
            self._ask("start", words, environ, [nothing.fileno(), out, err])
            child = int(self._socket.recv(100))
            self._socket.recv(100)  # Whoever forked it is gone.
        return _Forked(words, child)

    def _ask(
        self, how: str, words: Sequence[str], environ: Mapping[str, str], fds: list[int]
    ) -> None:
        request = json.dumps([how, list(words), dict(environ), str(Path.cwd())]).encode()
        assert len(request) < _MAX
        self._socket.settimeout(TIMEOUT_S)
        socket.send_fds(self._socket, [request], fds)


class _Forked(subprocess.Popen[bytes]):
    """A process that another has started, as if this one had."""

    def __init__(self, words: Sequence[str], pid: int) -> None:
        self.args, self.pid, self.returncode = words, pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created, self._communication_started = True, False
        self._waitpid_lock, self._sigint_wait_secs = Lock(), 0.25


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of those whose own dies before them."""
    be_subreaper: Callable[[int], int] = lambda on: ctypes.CDLL(None).prctl(36, on, 0, 0, 0)  # noqa: E731
    assert be_subreaper(1) == 0
    try:
        yield
    finally:
        be_subreaper(0)


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
def server(kind: Literal["commands", "workers"]) -> ForkServer:
    """Return this process' server, which ends with it."""
    return ForkServer(kind)


def _serve(fd: int) -> None:
    """Answer requests until the tests end. In a child it returns, and the command runs."""
    requests = socket.socket(fileno=fd)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, _MAX, 3)
        if not message:
            os._exit(0)
        how, *rest = json.loads(message)
        child = os.fork()
        if not child:
            if how == "start" and (started := os.fork()):
                requests.send(str(started).encode())
                os._exit(0)
            requests.close()
            _become(fds, *rest)
            return
        for one in fds:
            os.close(one)
        if how == "run":
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
    random.seed()
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    # What modules of ours read while they are imported.
    vars(failpoints)["_point"] = environ.get(failpoints.VARIABLE)
    sys.argv[1:] = words
    # As `python -m smsq_worker` finds the sources, without the tests.
    sys.path[0] = folder


def _import_all(*names: str) -> None:
    for name in names:
        package = importlib.import_module(name)
        for info in pkgutil.iter_modules(package.__path__, f"{name}."):
            if info.name not in _NOT_BEFORE:
                importlib.import_module(info.name)


def _commands() -> Callable[[], object]:
    _import_all(*(f"smsq_worker.cli.{room}" for room in ("commands", "views", "helpers")))
    _import_all("smsq_worker.api")
    sys.argv[0] = "smsq"
    main: Callable[[], object] = importlib.import_module("smsq_worker.cli").main
    return main


def _workers() -> Callable[[], object]:
    _import_all("celery.bin", "celery.worker", "celery.apps", "smsq_worker.celery_worker")
    for name in ("smsq_worker.runtime", "celery.concurrency.thread", "celery.fixups.django"):
        importlib.import_module(name)
    celery = importlib.import_module("celery.__main__")
    sys.argv[0] = str(celery.__file__)
    main: Callable[[], object] = celery.main
    return main


if __name__ == "__main__":
    main = _commands() if sys.argv[1] == "commands" else _workers()
    # Otherwise each child's collector visits all that was imported, and so copies its pages.
    gc.freeze()
    _serve(int(sys.argv[2]))
    main()
