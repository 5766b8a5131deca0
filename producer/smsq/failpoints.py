"""Points at which a test kills the process, to show what becomes of its messages."""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "SMSQ_TEST_KILL_AT"

_point: Final = os.environ.get(VARIABLE)


def reached(point: str) -> None:
    """Kill this process, as by kill -9, if a test named this point in the environment."""
    if point == _point:
        os.kill(os.getpid(), signal.SIGKILL)
