"""A small soak with every kind of fault; `make soak` runs larger ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.paths import TESTS


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("policy", "accounts"), [("resend", "1"), ("hold", "2")])
def test_nothing_is_lost_stuck_or_doubled_in_silence(
    base_environ: dict[str, str], policy: str, accounts: str
) -> None:
    # In a process of its own, because smsq reads its settings once.
    size = ["--messages", "160", "--seconds", "10", "--every", "1", "--freeze", "4"]
    command = [sys.executable, "-m", "soak", *size, "--policy", policy, "--accounts", accounts]
    done = subprocess.run(
        command, env=base_environ, cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
