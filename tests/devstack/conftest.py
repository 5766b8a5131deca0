"""The environment in which `smsq up` and `smsq demo` start."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.devstack import BINDS


@pytest.fixture
def bare(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment without a setting but for where to be, in which nothing is started yet."""
    return {
        **{name: value for name, value in environ.items() if not name.startswith("SMSQ_")},
        **dict.fromkeys(BINDS, "127.0.0.1:0"),
        "SMSQ_HOME": str(tmp_path / "home"),
        "PYTHONUNBUFFERED": "1",
    }
