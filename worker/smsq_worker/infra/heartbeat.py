"""Heartbeats of a process, for whatever restarts it without them.

    find "$SMSQ_HOME/alive" -name "celery@$(hostname)" -mmin -2 | grep -q .

A worker's scheduler touches that file every 0.5 s, and every 20 s or so while Redis is out of
reach, when a restart would not help. So a probe takes 2 ms, where `celery inspect ping` takes a
second of a core. A scheduler that hangs, or keeps failing for another reason, stops touching it.

systemd is notified, too, if it has started the process with Type=notify.
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
"""The process is stuck if its last heartbeat is older."""


class Heartbeat:
    """A worker's heartbeat, by its name. Its file is locked until the process ends."""

    def __init__(self, home: Path, worker: str) -> None:
        self._path = home / FOLDER / worker
        self._handle: int | None = None
        self._has_failed = False
        self._systemd = Systemd()

    def beat(self) -> None:
        """Touch the file. A failure is logged once and otherwise ignored."""
        self._systemd.beat()
        try:
            if self._handle is None or not self._path.exists():
                self._open()
            os.utime(self._path)
        except OSError as error:
            if not self._has_failed:
                log.error("%s cannot be touched: %s", self._path, error.strerror)  # noqa: TRY400
            self._has_failed = True

    def _open(self) -> None:
        self._close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        # The lock only informs `doctor`, and two workers of one name are no error.
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
    """The notifications to systemd: that the process is ready, and that it still works."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._state = b"READY=1\nWATCHDOG=1"

    def beat(self) -> None:
        """Notify systemd. Never raises and never waits: the next beat comes soon."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            # An address that begins with @ is in Linux' abstract namespace.
            name = self._address
            out.sendto(self._state, f"\0{name[1:]}" if name.startswith("@") else name)
            self._state = b"WATCHDOG=1"


def is_locked(path: Path) -> bool:
    """Return whether the process that touched a file is alive. Raises OSError."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
