"""The command line: in a process of its own, and in this one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.fork_server import same_start, server
from smsq_worker import cli

PHONE = "13800138000"
CODE = "482913"


def run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    done = as_text(unmasked_run(environ, *words))
    assert PHONE not in done.stdout + done.stderr
    assert CODE not in done.stdout + done.stderr
    return done


def as_text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    out, err = (part.decode(errors="surrogateescape") for part in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def unmasked_run(
    environ: dict[str, str], *words: str, stdin: str | bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command, whatever it may show; its outputs as bytes."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    args = [sys.executable, "-W", "error", "-m", "smsq_worker", *words]
    if same_start(environ):
        done = subprocess.CompletedProcess(args, *server("commands").run(words, environ, given))
    else:
        done = subprocess.run(
            args, env=environ, input=given, capture_output=True, timeout=60, check=False
        )
    assert b"Traceback" not in done.stderr
    return done


def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int | str | None, str, str]:
    """Run the command line in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["smsq", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


COMMAND = [sys.executable, "-W", "error", "-m", "smsq_worker", "status", "--watch", "1"]


@contextmanager
def watching(
    environ: dict[str, str], out: Path, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it with both outputs in a file; at the end Ctrl-C, which it must take for its end."""
    with out.open("wb") as file:
        running = subprocess.Popen([*COMMAND, *options], env=environ, stdout=file, stderr=file)
    try:
        yield running
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    assert "Traceback" not in out.read_text()


def unmasked(
    environ: dict[str, str], *words: str, stdin: str | bytes = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose purpose is to show numbers, or that reads them."""
    return unmasked_run(environ, "suppressed", *words, stdin=stdin)
