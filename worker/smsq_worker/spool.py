"""A local append-only file for what must not be lost while Redis is away.

An entry is on the disk when `append` returns. `replay` gives all entries back in order, those of
processes that died included, and forgets them once they have been applied. An entry may be
applied twice (a crash in between); what applies it must be idempotent.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

ACTIVE: Final = ".active"
"""A file that a living process writes; it holds a lock on it until it dies."""
READY: Final = ".ready"
"""A file that nobody writes any more."""


class Spool:
    """The spool of one process in a folder that it may share with others."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file: IO[bytes] | None = None
        self._path = folder
        self._lock = threading.Lock()

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry down for good. Raises OSError."""
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            file = self._file or self._open()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def pending(self) -> bool:
        """Tell whether any process' entries wait to be replayed."""
        return self._file is not None or next(self._left_behind(), None) is not None

    def replay(self, apply: Callable[[dict[str, Any]], object]) -> int:
        """Apply all entries in order; give their number.

        What `apply` raises ends the replay, and the entries wait for the next.
        """
        with self._lock:
            self._close()
        count = 0
        for path in self._left_behind():
            for entry in _entries(path):
                apply(entry)
                count += 1
            path.unlink(missing_ok=True)
        return count

    def _open(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Containers that share a volume have the same pid; the time gives the order.
        name = f"{self._name}-{time.time_ns():020}-{secrets.token_hex(4)}"
        new = self._folder / f"{name}.new"
        file = new.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Not before it is locked: another process would take it for one of a dead process.
        self._path = new.rename(new.with_suffix(ACTIVE))
        _fsync_folder(self._folder)
        self._file = file
        return file

    def _close(self) -> None:
        if self._file is not None:
            self._path.rename(self._path.with_suffix(READY))
            self._file.close()
            self._file = None

    def _left_behind(self) -> Iterator[Path]:
        """Give the files that nobody writes any more, oldest first."""
        found = [*self._folder.glob(f"{self._name}-*{READY}")]
        found += filter(_abandoned, self._folder.glob(f"{self._name}-*{ACTIVE}"))
        yield from sorted(found, key=lambda path: path.name)


def _abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        # Without its end a line was never promised to anybody: the process died in `append`.
        if line.endswith(b"\n"):
            yield json.loads(line)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
