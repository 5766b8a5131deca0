"""Run tests whose processes are frozen at random: `make frozen ONLY_TESTS=tests/sending`.

Three times a second or so whichever is at work is stopped for a moment: as a busy machine does it,
and just where races are. A test that fails under it goes by the time, or shows one.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import psutil

MARK: Final = "FROZEN_BY"
"""Processes have it in their environment, also those in sessions of their own."""
FREEZE_S: Final = (0.03, 0.5)
REST_S: Final = 0.1
LOOK_AGAIN_S: Final = 0.5
AT_WORK: Final = {psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP}


def main(words: Sequence[str]) -> int:
    """Return what pytest did."""
    mark, dice = str(os.getpid()), random.Random()
    command = [sys.executable, "-m", "pytest", *words]
    with subprocess.Popen(command, env=os.environ | {MARK: mark}) as tests:
        while tests.poll() is None:
            found, until = marked(mark), time.monotonic() + LOOK_AGAIN_S
            while found and time.monotonic() < until:
                freeze_one(found, dice)
        return tests.returncode


def marked(mark: str) -> list[psutil.Process]:
    """Return all processes with this mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def freeze_one(found: Sequence[psutil.Process], dice: random.Random) -> None:
    """Freeze a process for a moment if it is at work; rest a little if none is."""
    process = dice.choice(found)
    with suppress(psutil.Error):
        if process.status() not in AT_WORK:
            time.sleep(0.001)
            return
        process.suspend()
        try:
            time.sleep(dice.uniform(*FREEZE_S))
        finally:
            process.resume()
    time.sleep(dice.uniform(0, REST_S))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
