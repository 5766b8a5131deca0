"""A local append-only file for what must not be lost while Redis is away.

An entry is on the disk when `append` returns. `replay` gives all entries back in order, those of
processes that died included, and forgets them once they have been applied. An entry may be
applied twice (a crash in between); what applies it must be idempotent.

An entry that nobody can make sense of stops no other. It stays beside, in a file of the same form
that ends in `.bad`: renamed to `.ready`, it is replayed again. All that is set aside has been in
the spool before, so it takes no more room than that did.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from smsq.errors import LedgerUnavailable

log = logging.getLogger(__name__)

ACTIVE: Final = ".active"
"""A file that a living process writes; it holds a lock on it until it dies."""
READY: Final = ".ready"
"""A file that nobody writes any more."""
BAD: Final = ".bad"
"""What was set aside. No release looks for it."""
LOCK_S: Final = 10.0
"""Another thread that writes for longer has a disk that does not answer."""


class Replayed(NamedTuple):
    """How many entries were applied, and how many were set aside."""

    applied: int
    set_aside: int


class Spool:
    """The spool of one process in a folder that it may share with others."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._file: FileIO | None = None
        self._size = 0
        """Of what `append` has promised."""
        self._path = folder
        self._lock = threading.Lock()

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry down for good. Raises OSError; nothing of it stays then.

        After a failure the next entry goes to a new file, so half a line spoils no other.
        """
        line = json.dumps(entry).encode() + b"\n"
        with self._alone():
            try:
                file = self._file or self._open()
                _write(file, line)
                os.fsync(file.fileno())
            except BaseException:
                self._give_up()
                raise
            self._size += len(line)

    def pending(self) -> bool:
        """Return whether any process' entries wait to be replayed."""
        return self._file is not None or next(self._left_behind(), None) is not None

    def replay(self, apply: Callable[[dict[str, Any]], object]) -> Replayed:
        """Apply all entries in order, and set aside those that `apply` cannot.

        LedgerUnavailable, MemoryError and OSError are no fault of an entry: they are raised, and
        the entries wait for the next replay. A file that cannot be read keeps no other waiting.
        """
        with self._alone():
            self._close()
        applied, bad = 0, 0
        problem: OSError | None = None
        for path in self._left_behind():
            try:
                done = _replay(path, apply)
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError as error:
                problem = problem or error
                continue
            applied, bad = applied + done.applied, bad + done.set_aside
        if problem:
            raise problem
        return Replayed(applied, bad)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=LOCK_S):
            raise TimeoutError(errno.ETIMEDOUT, "the disk does not answer", str(self._folder))
        try:
            yield
        finally:
            self._lock.release()

    def _open(self) -> FileIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Containers that share a volume have the same pid; the time gives the order.
        name = f"{self._name}-{time.time_ns():020}-{secrets.token_hex(4)}"
        new = self._folder / f"{name}.new"
        file = FileIO(new, "ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Not before it is locked: another process would take it for one of a dead process.
            path = new.rename(new.with_suffix(ACTIVE))
        except BaseException:
            file.close()
            new.unlink(missing_ok=True)
            raise
        self._file, self._path, self._size = file, path, 0
        _fsync(self._folder)
        return file

    def _give_up(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(self._size)
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        # What cannot be renamed is taken for a dead process' file once its lock is gone. A file for
        # each failure on a full disk would use up what is left of it.
        with suppress(OSError):
            if self._size:
                self._path.rename(self._path.with_suffix(READY))
            else:
                self._path.unlink()
        with suppress(OSError):
            file.close()

    def _left_behind(self) -> Iterator[Path]:
        """Return the files that nobody writes any more, oldest first."""
        found = [*self._folder.glob(f"{self._name}-*{READY}")]
        found += filter(_abandoned, self._folder.glob(f"{self._name}-*{ACTIVE}"))
        yield from sorted(found, key=lambda path: path.name)


def _abandoned(path: Path) -> bool:
    try:
        if not _is_regular(path):
            return True
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _replay(path: Path, apply: Callable[[dict[str, Any]], object]) -> Replayed:
    if not _is_regular(path) or not os.access(path, os.R_OK):
        path.rename(path.with_suffix(BAD))
        log.critical("%s was set aside: it is no file, or may not be read", path)
        return Replayed(0, 1)
    applied, bad, kinds = 0, list[bytes](), set[str]()
    with path.open("rb") as file:
        for line in file:
            # Without its end a line was never promised to anybody: the process died in `append`.
            if not line.endswith(b"\n"):
                break
            try:
                apply(json.loads(line))
            except (LedgerUnavailable, OSError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it stops no other entry
                bad.append(line)
                # By their types: their words may quote the entry.
                kinds.add(type(error).__name__)
            else:
                applied += 1
    if bad:
        _set_aside(path, bad, ", ".join(sorted(kinds)))
    path.unlink(missing_ok=True)
    return Replayed(applied, len(bad))


def _set_aside(path: Path, lines: Sequence[bytes], why: str) -> None:
    # At the end, and anew each time: a replay that is broken off comes again.
    beside = path.with_suffix(BAD)
    with FileIO(beside, "wb") as file:
        _write(file, b"".join(lines))
        os.fsync(file.fileno())
    _fsync(beside.parent)
    log.critical("%d entries of the spool were set aside in %s: %s", len(lines), beside, why)


def _is_regular(path: Path) -> bool:
    # To open a pipe would wait for a writer.
    return stat.S_ISREG(path.lstat().st_mode)


def _write(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
