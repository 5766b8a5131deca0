"""How long a lease lasts, by a clock of this machine that also counts the time it is suspended."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseOver(Exception):  # noqa: N818
    """An attempt no longer holds: another may have begun, so nothing of it may be sent now."""


def now_s() -> float:
    """Return seconds since some moment; comparable within this machine's uptime alone."""
    return time.clock_gettime(_CLOCK)
