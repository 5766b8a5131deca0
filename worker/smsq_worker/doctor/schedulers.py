"""The schedulers of this machine's workers, by their heartbeat files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from smsq_worker.doctor.finding import Finding, error, ok
from smsq_worker.i18n import _, ngettext
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
                    _(
                        "the scheduler of {name} has been stuck for {s:.0f} s",
                        name=path.name,
                        s=age_s,
                    ),
                    _("read its log, then restart it; other workers do what is due meanwhile"),
                )
            running += age_s <= STUCK_S
        except FileNotFoundError:  # it ended meanwhile
            continue
        except OSError as problem:
            what = _("{path} cannot be read: {why}", path=path, why=problem.strerror)
            yield error(what, _("let this user read it"))
    yield ok(
        ngettext(
            "{n} scheduler of this machine's workers running",
            "{n} schedulers of this machine's workers running",
            running,
        )
    )
