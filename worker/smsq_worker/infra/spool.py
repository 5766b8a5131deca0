"""A local append-only file for what must not be lost while Redis is away.

An entry is on the disk when `append` returns. `replay` applies all entries in order, including
those of processes that died, and removes them afterwards. An entry may be applied twice (after a
crash in between), so applying it must be idempotent.

A spool that strangers can fill has a bound, and leaves room on the disk to what has none.

An invalid entry blocks no other. It is set aside in a file of the same format that ends in `.bad`;
renamed to `.ready`, it is replayed again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from smsq.errors import LedgerUnavailable
from smsq_worker.infra.heartbeat import is_locked
from smsq_worker.infra.private_file import private_opener

log = logging.getLogger(__name__)

ACTIVE: Final = ".active"
"""A file that a living process writes, and locks until it dies."""
READY: Final = ".ready"
"""A file that nobody writes any more."""
BAD: Final = ".bad"
"""Entries that were set aside. No release reads them."""
LOCK_S: Final = 10.0
"""If another thread writes for longer, the disk does not respond."""
BLOCK: Final = 4096
"""What a file takes at least."""
MEASURE_S: Final = 1.0
"""How long a measurement of the folder counts: others may write to it."""
SPARE_BYTES: Final = 64 * 1024 * 1024
SPARE_SHARE: Final = 0.05
"""What a bounded spool leaves free on its disk: the lesser of the two."""


class SpoolFull(OSError):  # noqa: N818 - says what is so
    """A bounded spool holds as much as it may, or its disk is nearly full."""


class Replayed(NamedTuple):
    """How many entries were applied, and how many were set aside."""

    applied: int
    set_aside: int


class Spool:
    """The spool of one process, in a folder that others may share.

    `max_bytes` bounds what all of its name take in the folder.
    """

    def __init__(self, folder: Path, name: str, *, max_bytes: int | None = None) -> None:
        self._folder = folder
        self._name = name
        self._file: FileIO | None = None
        self._size = 0
        """Of the entries for which `append` has returned."""
        self._path = folder
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._used, self._measured_at = 0, -math.inf

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry to the disk. Raises OSError, and then leaves nothing of it.

        Raises SpoolFull, which is one, where the spool is bounded and full.
        After a failure the next entry goes to a new file, so half a line damages no other.
        """
        line = json.dumps(entry).encode() + b"\n"
        with self._alone():
            self._require_room(len(line))
            try:
                file = self._file or self._open()
                _write(file, line)
                os.fsync(file.fileno())
            except BaseException:
                self._give_up()
                raise
            self._size += len(line)
            self._used += len(line)

    def pending(self) -> bool:
        """Return whether entries of any process wait to be replayed."""
        return self._file is not None or bool(self._left_behind())

    def replay(self, apply: Callable[[dict[str, Any]], object]) -> Replayed:
        """Apply all entries in order, and set aside those that `apply` rejects.

        LedgerUnavailable, MemoryError and OSError are not the entry's fault: they are raised, and
        the entries wait for the next replay. A file that cannot be read delays no other.
        """
        problems: list[OSError] = []
        applied, bad = 0, 0
        for path in self._to_replay():
            try:
                done = _replay(path, apply)
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError as error:
                problems.append(error)
                continue
            applied, bad = applied + done.applied, bad + done.set_aside
        if problems:
            raise problems[0]
        return Replayed(applied, bad)

    def _to_replay(self) -> Iterator[Path]:
        yield from self._left_behind()
        # Ours stays open until the others came through: a new file at each try would be one for
        # each second of an outage.
        with self._alone():
            self._close()
        yield from self._left_behind()

    def _require_room(self, more: int) -> None:
        if self._max_bytes is None:
            return
        if time.monotonic() >= self._measured_at + MEASURE_S:
            self._used, self._measured_at = used(self._folder, self._name), time.monotonic()
        if self._used + more > self._max_bytes or _is_nearly_full(self._folder, more):
            raise SpoolFull(errno.ENOSPC, "the spool is full", str(self._folder))

    def close(self) -> None:
        """Leave what was written to the next replay. Raises OSError where the disk hangs."""
        with self._alone():
            self._close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=LOCK_S):
            raise TimeoutError(errno.ETIMEDOUT, "the disk does not respond", str(self._folder))
        try:
            yield
        finally:
            self._lock.release()

    def _open(self) -> FileIO:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Containers that share a volume have the same pid; the time gives the order.
        name = f"{self._name}-{time.time_ns():020}-{secrets.token_hex(4)}"
        new = self._folder / f"{name}.new"
        file = FileIO(new, "ab", opener=private_opener)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Only once it is locked: others take an unlocked file for a dead process'.
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
        # Without its lock a file that cannot be renamed is taken for a dead process'. Empty files
        # are removed: one for each failure would fill up a disk that is nearly full.
        with suppress(OSError):
            if self._size:
                self._path.rename(self._path.with_suffix(READY))
            else:
                self._path.unlink()
        with suppress(OSError):
            file.close()

    def _left_behind(self) -> list[Path]:
        """Return the files that nobody writes any more, oldest first."""
        found = [*self._folder.glob(f"{self._name}-*{READY}")]
        found += filter(_abandoned, self._folder.glob(f"{self._name}-*{ACTIVE}"))
        return sorted(found, key=lambda path: path.name)


def used(folder: Path, name: str) -> int:
    """Return how many bytes the spools of a name take in a folder, in blocks of the disk."""
    total = 0
    for path in folder.glob(f"{name}-*"):
        with suppress(OSError):  # it was replayed meanwhile
            total += -(-path.lstat().st_size // BLOCK) * BLOCK
    return total


def _is_nearly_full(folder: Path, more: int) -> bool:
    try:
        disk = shutil.disk_usage(folder)
    except OSError:  # what is wrong shows when it is written
        return False
    return disk.free - more < min(SPARE_BYTES, disk.total * SPARE_SHARE)


def _abandoned(path: Path) -> bool:
    try:
        return not (_is_regular(path) and is_locked(path))
    except OSError:
        return False


def _replay(path: Path, apply: Callable[[dict[str, Any]], object]) -> Replayed:
    if not _is_regular(path) or not os.access(path, os.R_OK):
        path.rename(path.with_suffix(BAD))
        log.critical("%s was set aside: it is no file, or may not be read", path)
        return Replayed(0, 1)
    applied, bad, kinds = 0, list[bytes](), set[str]()
    with path.open("rb") as file:
        for line in file:
            # The process died in `append`, which has not returned for an incomplete line.
            if not line.endswith(b"\n"):
                break
            try:
                apply(json.loads(line))
            except (LedgerUnavailable, OSError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001 - it must block no other entry
                bad.append(line)
                # Only the types: messages may quote the entry.
                kinds.add(type(error).__name__)
            else:
                applied += 1
    if bad:
        _set_aside(path, bad, ", ".join(sorted(kinds)))
    path.unlink(missing_ok=True)
    return Replayed(applied, len(bad))


def _set_aside(path: Path, lines: Sequence[bytes], why: str) -> None:
    # Only at the end, and overwriting: a replay that is interrupted is repeated.
    beside = path.with_suffix(BAD)
    with FileIO(beside, "wb", opener=private_opener) as file:
        _write(file, b"".join(lines))
        os.fsync(file.fileno())
    _fsync(beside.parent)
    log.critical("%d entries of the spool were set aside in %s: %s", len(lines), beside, why)


def _is_regular(path: Path) -> bool:
    # Opening a pipe would wait for a writer.
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
