"""What keeps a loop of ours from its work: logged when it begins, and no loop ends of it."""

from __future__ import annotations

import logging
import traceback
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 5.0


class FailureLog:
    """The troubles of one loop since it last got through. Not for several threads."""

    def __init__(self, log: logging.Logger, who: str) -> None:
        self._log = log
        self._who = who
        self._told: set[str] = set()
        self._wait_s = FIRST_S

    def waits(self, error: Exception) -> float:
        """Log what is known to happen, and to end by itself; return the seconds to wait."""
        if not self._told:
            self._log.warning("%s waits: %s", self._who, error)
        self._told.add("")
        return FIRST_S

    def fails(self, error: Exception) -> float:
        """Log what should not happen, once for each place; return the seconds to wait: ever more.

        Without the error's own words, which may quote a number, but the system's.
        """
        frames = traceback.extract_tb(error.__traceback__)
        where = "".join(traceback.format_list(frames)[-1:])
        kind = f"{type(error).__name__} {where}"
        if kind not in self._told:
            trail = "".join(traceback.format_list(frames))
            name = type(error).__name__
            if isinstance(error, OSError) and error.strerror:
                name += f": {error.strerror}"
            self._log.critical("%s fails, and goes on trying: %s\n%s", self._who, name, trail)
        self._told.add(kind)
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_S)
        return wait_s

    def over(self) -> None:
        """Note that it got through."""
        if self._told:
            self._log.warning("%s goes on", self._who)
            self._told.clear()
        self._wait_s = FIRST_S
