"""The spool: where workers and the HTTP API write while Redis is away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _
from smsq_worker.infra.memory import NEARLY
from smsq_worker.infra.spool import ACTIVE, BAD, READY, used

LONG_S: Final = 600
"""Once Redis is back, no entry waits longer."""


def check(folder: Path, max_bytes: int = 0) -> Iterator[Finding]:
    """Check the spool of this machine, without leaving anything in it.

    `max_bytes` is what the reports in it may take.
    """
    folder = folder.resolve()
    try:
        _try_to_write(folder)
        files = [*chain(folder.glob(f"*{READY}"), folder.glob(f"*{ACTIVE}"))]
        found = [_entries_and_age_s(path) for path in files]
        bad = [*folder.glob(f"*{BAD}")]
        taken = used(folder, "reports")
    except OSError as problem:
        yield error(
            _("{folder} cannot be used: {why}", folder=folder, why=problem.strerror),
            _(
                "set SMSQ_HOME to a folder on a local disk that workers and the HTTP API can write "
                "to"
            ),
        )
        return
    yield ok(_("{folder} is writable", folder=folder))
    yield _waiting(found)
    if max_bytes and taken > NEARLY * max_bytes:
        yield _nearly_full(taken, max_bytes)
    if bad:
        yield error(
            _(
                "{n} files in {folder} hold entries that could not be processed",
                n=len(bad),
                folder=folder,
            ),
            _(
                "inspect *{bad} there; if a newer release wrote it, upgrade and rename it to "
                "*{ready}",
                bad=BAD,
                ready=READY,
            ),
        )


def _nearly_full(taken: int, max_bytes: int) -> Finding:
    return error(
        _(
            "reports take {used} MiB of the {limit} MiB of SMSQ_REPORT_SPOOL_MB: the HTTP API "
            "refuses others while Redis does not take them",
            used=taken >> 20,
            limit=max_bytes >> 20,
        ),
        _("bring Redis back, or give it room; see docs/operate/runbook.md, SmsqReportFlood"),
    )


def _waiting(found: Sequence[tuple[int, float]]) -> Finding:
    count, waits_s = sum(entries for entries, _ in found), max((age for _, age in found), default=0)
    if not count:
        return ok(_("nothing waits in the spool"))
    what = _("{n} entries wait in the spool: Redis was away, or a process died", n=count)
    level = warning
    if waits_s > LONG_S:
        what, level = _("{what}; the oldest for {n:.0f} min", what=what, n=waits_s / 60), error
    return level(
        what,
        _("a worker (results) and the API (reports) of this machine write them to the ledger"),
    )


def _try_to_write(folder: Path) -> None:
    """Write to the folder, or to that in which it would be made. Raises OSError."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"smsq doctor\n")


def _entries_and_age_s(path: Path) -> tuple[int, float]:
    try:
        return path.read_bytes().count(b"\n"), time.time() - path.stat().st_mtime
    except FileNotFoundError:  # replayed meanwhile
        return 0, 0
