"""A file that tells that a worker lives, for whoever restarts one that does not.

    find "$SMSQ_HOME/alive" -name "celery@$(hostname)" -mmin -2 | grep -q .

Its clock touches it every 0.5 s, and every 20 s or so while Redis is out of reach: a restart would
mend nothing then. So it costs a probe 2 ms, where `celery inspect ping` takes a second of a core.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


class Alive:
    """A worker's sign of life, by its name."""

    def __init__(self, home: Path, worker: str) -> None:
        self._file = home / "alive" / worker
        self._complained = False

    def beat(self) -> None:
        """Touch the file. That it cannot be is logged once, and stops nothing."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch()
        except OSError as error:
            if not self._complained:
                log.error("%s cannot be touched: %s", self._file, error.strerror)  # noqa: TRY400
            self._complained = True

    def end(self) -> None:
        """Remove the file."""
        self._file.unlink(missing_ok=True)
