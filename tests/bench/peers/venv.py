"""The peers' own virtual environment, made when it is missing or its pins have changed."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from harness.paths import ROOT

PINS: Final = ROOT / "ops/requirements-peers.txt"
HOME: Final = ROOT / ".bench-venv"
ASYNC: Final = ("taskiq", "taskiq-redis", "streaq", "aiohttp")
THREADED: Final = ("dramatiq", "huey", "celery", "rq", "requests")


def python() -> str:
    """Give the environment's Python. Raises CalledProcessError where it cannot be made."""
    found, made_of = str(HOME / "bin/python"), HOME / "made-of"
    pins = PINS.read_text(encoding="utf-8")
    if not made_of.exists() or made_of.read_text(encoding="utf-8") != pins:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        install = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "-r", str(PINS)], check=True)
        made_of.write_text(pins, encoding="utf-8")
    return found


def versions() -> str:
    """Say what is pinned."""
    pins = dict(
        line.split(" ")[0].split("==") for line in PINS.read_text().splitlines() if "==" in line
    )
    return ", ".join(f"{name} {pins[name]}" for name in ASYNC + THREADED)
