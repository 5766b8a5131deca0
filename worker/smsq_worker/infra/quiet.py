"""What may happen at each of many requests is logged once in a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final

QUIET_S: Final = 60.0


class Quiet:
    """Of which kinds of events one was logged a moment ago. Threads share it."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._until: dict[Hashable, float] = {}
        self._lock = Lock()

    def is_over(self, kind: Hashable) -> bool:
        """Return whether to log an event of this kind; if so, others are not for `QUIET_S`."""
        now = self._timer()
        with self._lock:
            is_over = self._until.get(kind, now) <= now
            if is_over:
                self._until[kind] = now + QUIET_S
        return is_over
