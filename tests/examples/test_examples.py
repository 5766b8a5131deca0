"""The projects in examples/ as they stand: their own tests, with no Redis on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from harness.paths import ROOT
from smsq_worker.infra.ports import free_port

PROJECTS = ("fastapi_login",)


@pytest.mark.parametrize("name", PROJECTS)
def test_the_tests_of_an_example_pass_without_a_redis(name: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "CELERY_"))}
    nobody = {"SMSQ_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    # An editable install from before the entry point does not have it.
    is_there = entry_points(group="pytest11", name="smsq")
    plugin = [] if is_there else ["-p", "smsq_pytest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin],
        cwd=ROOT / "examples" / name,
        env=kept | nobody,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
