"""Tell the operator which parameters the relay ignores, and never what they hold.

A client of the gateway that changes only its host goes on working, whatever else it sends.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from threading import Lock
from typing import Final

log = logging.getLogger(__name__)

NAMES_AT_MOST: Final = 100
"""Clients choose the names, so there is a bound: beyond it nothing is logged."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,39}")
_DIGITS: Final = re.compile(r"\d{4,}")


class IgnoredParameters:
    """Logs each name once. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._logged: set[str] = set()

    def note(self, names: Iterable[str]) -> None:
        """Log those names that were not logged before."""
        for name in names:
            shown = _shown(name)
            with self._lock:
                if shown in self._logged or len(self._logged) >= NAMES_AT_MOST:
                    continue
                self._logged.add(shown)
                is_last = len(self._logged) == NAMES_AT_MOST
            log.warning(
                "the relay ignores the parameter %s, which it does not know; the message is "
                "taken. Each name is logged once%s",
                *(shown, ", and no more than these" * is_last),
            )


def _shown(name: str) -> str:
    """Return a name as it may be logged: text that was not escaped can make any name."""
    if not _NAME.fullmatch(name):
        return "(with a name that is no word)"
    return repr(_DIGITS.sub("****", name))
