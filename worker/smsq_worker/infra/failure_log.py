"""Logging why a loop that must never end fails: when that begins, and when it is over."""

from __future__ import annotations

import logging
import traceback
from typing import Final

from smsq_worker.infra.logs import Lines

MIN_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 5.0


class FailureLog:
    """The failures of one loop since it last succeeded. Not thread-safe."""

    def __init__(self, log: logging.Logger, loop: str) -> None:
        self._log = log
        self._loop = loop
        self._logged: set[str] = set()
        self._wait_s = MIN_WAIT_S

    def waits(self, error: Exception) -> float:
        """Log an outage, once for each kind of error; return the seconds to wait."""
        kind = type(error).__name__
        if kind not in self._logged:
            self._log.warning("%s waits: %s", self._loop, error)
        self._logged.add(kind)
        return MIN_WAIT_S

    def fails(self, error: Exception) -> float:
        """Log an unexpected error, once for each place; return the seconds to wait: ever more.

        Only the system's own message is logged; others may quote a number.
        """
        frames = traceback.format_tb(error.__traceback__)
        name = type(error).__name__
        place = f"{name} {frames[-1] if frames else ''}"
        if place not in self._logged:
            if isinstance(error, OSError) and error.strerror:
                name += f": {error.strerror}"
            trace = Lines("".join(frames))
            self._log.critical("%s fails, and keeps trying: %s\n%s", self._loop, name, trace)
        self._logged.add(place)
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, MAX_WAIT_S)
        return wait_s

    def over(self) -> None:
        """Note that the loop succeeded."""
        if self._logged:
            self._log.warning("%s goes on", self._loop)
            self._logged.clear()
        self._wait_s = MIN_WAIT_S
