"""Which of Celery's options a worker refuses, before it begins anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from smsq_worker.celery_worker.options import refused

SMSQ = ("smsq_worker", "worker")
CELERY = ("celery", "-A", "smsq_worker", "worker")


@pytest.mark.parametrize(
    ("program", "options"),
    [
        # gevent's and eventlet's patches would come before all else; they are not even installed.
        (SMSQ, ("-P", "gevent")),
        (SMSQ, ("--pool=eventlet",)),
        (SMSQ, ("--loglevel", "info", "--autoscale", "10,3")),
        (CELERY, ("-P", "prefork")),
        (CELERY, ("--autoscale=10,3", "-Q", "sms.otp")),
    ],
)
def test_a_worker_that_could_not_keep_its_word_does_not_start(
    environ: dict[str, str], program: tuple[str, ...], options: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", *program, *options]
    ended = subprocess.run(
        command, check=False, env=environ, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("smsq: --")
    assert "`smsq worker --concurrency N`" in line


@pytest.mark.parametrize("pool", ["prefork", "processes", "solo", "gevent", "eventlet", "custom"])
def test_every_other_pool_is_refused(pool: str) -> None:
    for options in (["-P", pool], [f"-P{pool}"], ["--pool", pool], [f"--pool={pool}"]):
        (line,) = refused(["-c", "4", *options, "-Q", "sms.otp"])
        assert line.startswith(f"--pool {pool}: workers send by threads only")


@pytest.mark.parametrize(
    "options", [[], ["-P", "threads"], ["--pool=threads"], ["-c", "1"], ["-Q", "sms.otp"], ["-P"]]
)
def test_all_else_is_left_to_celery(options: list[str]) -> None:
    assert refused(options) == []
