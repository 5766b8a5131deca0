"""`smsq up` and `smsq demo`: all parts as processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import requests

from smsq_worker.local.ports import free_port
from support import eventually


@pytest.fixture
def bare(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment without a setting, in which nothing is started yet."""
    return {
        **{name: value for name, value in environ.items() if not name.startswith("SMSQ_")},
        "SMSQ_HOME": str(tmp_path / "home"),
        "SMSQ_SANDBOX_BIND": f"127.0.0.1:{free_port()}",
        "SMSQ_DOOR_BIND": f"127.0.0.1:{free_port()}",
        "SMSQ_FLOWER_BIND": f"127.0.0.1:{free_port()}",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def up(environ: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `smsq up` until it is ready; at the end, end it by Ctrl-C and see nothing left."""
    command = [sys.executable, "-m", "smsq_worker", "up", *options]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = any(line.startswith("Ready") for line in process.stdout)
        children = psutil.Process(process.pid).children(recursive=True) if ready else []
        try:
            assert ready
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        assert process.returncode == 0
        assert len(children) >= 4
        assert not [child for child in children if child.is_running()]


def test_up_starts_everything_and_ctrl_c_leaves_nothing_behind(bare: dict[str, str]) -> None:
    port = free_port()
    with up(bare, "--redis-port", str(port)):
        assert requests.get(f"http://{bare['SMSQ_DOOR_BIND']}/readyz", timeout=5).ok
        assert requests.get(f"http://{bare['SMSQ_FLOWER_BIND']}/healthcheck", timeout=5).ok
        told = subprocess.run(
            [sys.executable, "-m", "smsq_worker", "send", "13800138000", "SMS_1001", "482913"],
            env=bare | {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0"},
            capture_output=True,
            text=True,
            check=True,
        )
        with redis.Redis(port=port, decode_responses=True) as client:
            key = f"smsq:m:{told.stdout.strip()}"
            eventually(lambda: client.hget(key, "state") == "delivered")
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_up_uses_the_redis_of_the_settings(
    bare: dict[str, str], environ: dict[str, str], client: redis.Redis
) -> None:
    with up(bare | {"SMSQ_REDIS_URL": environ["SMSQ_REDIS_URL"]}) as process:
        assert not (Path(bare["SMSQ_HOME"]) / "redis").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_demo_ends_every_message_as_its_number_demands(bare: dict[str, str]) -> None:
    """Every documented stat code, refusal, timeout and kind of report, with its documented end."""
    done = subprocess.run(
        [sys.executable, "-m", "smsq_worker", "demo"],
        env=bare,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert f"Flower was at http://{bare['SMSQ_FLOWER_BIND']}/" in done.stdout
    home = Path(bare["SMSQ_HOME"])
    assert (home / "demo" / "redis").is_dir()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in f"{p.info['cmdline']}"]
