"""Which of Celery's options a worker refuses, before it begins anything."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from celery.concurrency import prefork, solo, thread

from smsq_worker.celery_worker.options import doubtful, refused, refused_pool

SMSQ = ("smsq_worker", "worker")
CELERY = ("celery", "-A", "smsq_worker", "worker")


@pytest.mark.parametrize(
    ("program", "options"),
    [
        # gevent's and eventlet's patches would come before all else; they are not even installed.
        (SMSQ, ("-P", "gevent")),
        (SMSQ, ("--pool=eventlet",)),
        (CELERY, ("-P", "prefork")),
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


def test_fewer_attempts_than_none_are_refused() -> None:
    for options in (["-c", "-1"], ["-c-1"], ["--concurrency", "-10"], ["--concurrency=-2"]):
        (line,) = refused(options)
        assert re.match("--concurrency -[0-9]+: no attempt could be made; `smsq worker", line)
    for options in (["-c", "0"], ["-c"], ["-c", "-0"], ["-c", "-Q", "sms.otp"]):  # Celery's default
        assert refused(options) == []


def test_autoscaling_is_refused() -> None:
    for options in (["--loglevel", "info", "--autoscale", "10,3"], ["--autoscale=10,3", "-Q", "x"]):
        assert refused(options)[0].startswith("--autoscale: threads are begun as they are needed;")


@pytest.mark.parametrize(
    "options", [[], ["-P", "threads"], ["--pool=threads"], ["-c", "1"], ["-Q", "sms.otp"], ["-P"]]
)
def test_all_else_is_left_to_celery(options: list[str]) -> None:
    assert refused(options) == []


@pytest.mark.parametrize("pool", [prefork.TaskPool, solo.TaskPool])
def test_a_pool_is_refused_however_it_was_asked_for(pool: type) -> None:
    (line,) = refused_pool(pool)  # such as by -EPsolo, or worker.pool=solo
    assert line.startswith(f"--pool {pool.__module__.rpartition('.')[2]}: workers send by threads")
    assert refused_pool(thread.TaskPool) == refused_pool(None) == []


def test_a_purge_is_refused_as_it_would_delete_no_message() -> None:
    for name in ("--purge", "--discard"):
        (line,) = refused(["-c", "4", name])
        assert "drop none" in line
        assert "`smsq pause`" in line


def test_a_worker_of_queues_that_are_not_smsqs_is_refused_with_the_right_name() -> None:
    (line,) = refused(["-Q", "sms.opt"])
    assert line.startswith("--queues: sms.opt: no queue of smsq's, which are sms.otp, sms.report")
    assert line.endswith("did you mean sms.otp?")
    assert refused(["--queues=sms.otp,other"]) == []
    (warning,) = doubtful(["--queues=sms.otp,other"])
    assert warning.startswith("--queues: other: no queue of smsq's")


DOUBTFUL = {
    "--time-limit": "has no effect: every attempt has its own deadline",
    "--soft-time-limit": "has no effect: every attempt has its own deadline",
    "--max-tasks-per-child": "has no effect: a worker has no child processes",
    "--max-memory-per-child": "has no effect: a worker has no child processes",
    "--prefetch-multiplier": "is not tested: a lane full of bulk",
}


@pytest.mark.parametrize(("name", "told"), DOUBTFUL.items())
def test_what_does_nothing_or_is_untested_is_said(name: str, told: str) -> None:
    for options in ([name, "4"], [f"{name}=4"]):
        assert refused(options) == []
        (line,) = doubtful(["-c", "4", *options])
        assert line.startswith(f"{name} {told}")


def test_what_is_tested_is_not_warned_of() -> None:
    assert list(doubtful(["-c", "1", "-Q", "sms.otp", "-l", "INFO", "--without-gossip"])) == []
    (line,) = doubtful(["--disable-prefetch"])
    assert line.startswith("--disable-prefetch is not tested")
