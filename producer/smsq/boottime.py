"""A clock that goes on while the machine is suspended, as leases and firewalls do."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_s() -> float:
    """Return seconds since some moment; comparable only within this machine's uptime."""
    return time.clock_gettime(_CLOCK)
