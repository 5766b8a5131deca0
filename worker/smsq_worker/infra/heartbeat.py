"""Signs of life, for whoever restarts a process that gives none.

    find "$SMSQ_HOME/alive" -name "celery@$(hostname)" -mmin -2 | grep -q .

A worker's clock touches that file every 0.5 s, and every 20 s or so while Redis is out of reach: a
restart would mend nothing then. So it costs a probe 2 ms, where `celery inspect ping` takes a
second of a core. A clock that is stuck, or fails again and again for another reason, does not.

systemd is told the same, where it has started the process with Type=notify.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

FOLDER: Final = "alive"
STUCK_S: Final = 120
"""A sign of life that is older is none."""


class Heartbeat:
    """A worker's sign of life, by its name. Its file is locked until the process ends."""

    def __init__(self, home: Path, worker: str) -> None:
        self._path = home / FOLDER / worker
        self._handle: int | None = None
        self._complained = False
        self._systemd = Systemd()

    def beat(self) -> None:
        """Touch the file. That it cannot be is logged once, and stops nothing."""
        self._systemd.beat()
        try:
            if self._handle is None or not self._path.exists():
                self._open()
            os.utime(self._path)
        except OSError as error:
            if not self._complained:
                log.error("%s cannot be touched: %s", self._path, error.strerror)  # noqa: TRY400
            self._complained = True

    def _open(self) -> None:
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        # The lock only tells `doctor` something, and two workers of one name are no error.
        with suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def end(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._close()


class Systemd:
    """What systemd is told: that the process has begun to work, and that it still does."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._state = b"READY=1\nWATCHDOG=1"

    def beat(self) -> None:
        """Tell it. Never raises and never waits: it is told again soon."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            # An address that begins with @ is in no folder.
            name = self._address
            out.sendto(self._state, f"\0{name[1:]}" if name.startswith("@") else name)
            self._state = b"WATCHDOG=1"


def is_locked(path: Path) -> bool:
    """Return whether the process that touched a file still lives. Raises OSError."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
