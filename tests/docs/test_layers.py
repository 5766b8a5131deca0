"""Who may import whom: the contracts stand in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.paths import ROOT


def test_imports_run_one_way() -> None:
    # In a process of its own: it switches off the loggers that are there.
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
