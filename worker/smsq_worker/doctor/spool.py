"""The spool: where workers and door write while Redis is away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.infra.spool import ACTIVE, BAD, READY

LONG_S: Final = 600
"""Entries wait no longer once Redis is back."""


def examine(folder: Path) -> Iterator[Finding]:
    """Look at the spool of this machine; nothing stays that was not there before."""
    folder = folder.resolve()
    try:
        _try_to_write(folder)
        files = [*chain(folder.glob(f"*{READY}"), folder.glob(f"*{ACTIVE}"))]
        count = sum(map(_entries, files))
        waits_s = max(map(_age_s, files), default=0)
        bad = [*folder.glob(f"*{BAD}")]
    except OSError as problem:
        yield error(
            f"{folder} cannot be used: {problem.strerror}",
            "set SMSQ_HOME to a folder on a local disk that workers and door may write",
        )
        return
    yield ok(f"{folder} can be written")
    if count:
        tell = error if waits_s > LONG_S else warning
        yield tell(
            f"{count} entries wait in the spool: Redis was away, or a process died"
            + f"; the oldest for {waits_s / 60:.0f} min" * (waits_s > LONG_S),
            "a worker (calls) and the door (reports) of this machine bring them into the ledger",
        )
    else:
        yield ok("nothing waits in the spool")
    if bad:
        yield error(
            f"{len(bad)} files in {folder} hold what was set aside, as nothing could be made of it",
            f"look at *{BAD} there; where a newer release wrote it, upgrade and rename to *{READY}",
        )


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


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0
