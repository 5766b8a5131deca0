"""A backend in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run(code: str, environ: dict[str, str], python: str = sys.executable) -> str:
    """Return what it prints; fail with that where it fails."""
    done = subprocess.run(
        [python, "-W", "error", "-c", textwrap.dedent(code)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
