"""The schedulers of this machine's workers, by their heartbeat files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from smsq_worker.doctor.finding import Finding, counted, error, ok
from smsq_worker.infra.heartbeat import STUCK_S, is_locked


def check(folder: Path) -> Iterator[Finding]:
    """Check for a worker that is alive but whose scheduler is stuck."""
    running = 0
    for path in sorted(folder.glob("*")):
        try:
            age_s = time.time() - path.stat().st_mtime
            # A worker that was killed leaves its file, without its lock.
            if age_s > STUCK_S and is_locked(path):
                yield error(
                    f"the scheduler of {path.name} has been stuck for {age_s:.0f} s",
                    "read its log, then restart it; other workers do what is due meanwhile",
                )
            running += age_s <= STUCK_S
        except FileNotFoundError:  # it ended meanwhile
            continue
        except OSError as problem:
            yield error(f"{path} cannot be read: {problem.strerror}", "let this user read it")
    yield ok(f"{counted(running, 'scheduler')} of this machine's workers running")
