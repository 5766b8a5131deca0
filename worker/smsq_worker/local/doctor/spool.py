"""The spool: where workers and door write while Redis is away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from smsq_worker.local.doctor.finding import Finding, error, ok, warning
from smsq_worker.spool import ACTIVE, READY


def examine(folder: Path) -> Iterator[Finding]:
    """Look at the spool of this machine; nothing stays that was not there before."""
    folder = folder.resolve()
    try:
        _try_to_write(folder)
        count = sum(map(_entries, chain(folder.glob(f"*{READY}"), folder.glob(f"*{ACTIVE}"))))
    except OSError as problem:
        yield error(
            f"{folder} cannot be used: {problem.strerror}",
            "set SMSQ_HOME to a folder on a local disk that workers and door may write",
        )
        return
    yield ok(f"{folder} can be written")
    if count:
        yield warning(
            f"{count} entries wait in the spool: Redis was away, or a process died",
            "a worker (calls) and the door (reports) of this machine bring them into the ledger",
        )
    else:
        yield ok("nothing waits in the spool")


def _try_to_write(folder: Path) -> None:
    """Write to the folder, or to that in which it would be made. Raises OSError."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"smsq doctor\n")


def _entries(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:  # replayed meanwhile
        return 0
