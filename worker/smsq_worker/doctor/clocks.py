"""The clocks of this machine's workers, by their signs of life."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from smsq_worker.doctor.finding import Finding, error, ok
from smsq_worker.infra.heartbeat import STUCK_S, is_locked


def examine(folder: Path) -> Iterator[Finding]:
    """Look for a worker that lives and whose clock does not."""
    going = 0
    for path in sorted(folder.glob("*")):
        try:
            age_s = time.time() - path.stat().st_mtime
            # One that was killed leaves its file, without its lock.
            if age_s > STUCK_S and is_locked(path):
                yield error(
                    f"the clock of {path.name} has been stuck for {age_s:.0f} s",
                    "read its log, then restart it; other workers do what is due meanwhile",
                )
            going += age_s <= STUCK_S
        except FileNotFoundError:  # it ended meanwhile
            continue
        except OSError as problem:
            yield error(f"{path} cannot be read: {problem.strerror}", "let this user read it")
    yield ok(f"{going} clock{'s' * (going != 1)} of this machine's workers at work")
