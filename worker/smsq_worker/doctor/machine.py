"""This machine: its environment, its workers' schedulers, its HTTP API if it has one, its spool."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from smsq.settings import unknown
from smsq_worker.api.clients import weak
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _, ngettext
from smsq_worker.infra.heartbeat import STUCK_S, is_locked
from smsq_worker.infra.memory import NEARLY
from smsq_worker.infra.ports import is_up, shown
from smsq_worker.infra.spool import ACTIVE, BAD, READY, used

LONG_S: Final = 600
"""Once Redis is back, no entry of the spool waits longer."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here


def check_environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Name what is ignored. What resembles a setting is refused before this is asked."""
    names = ", ".join(unknown(Settings, environ))
    if not names:
        yield ok(_("every SMSQ_ variable is a setting"))
        return
    what = _("ignored, as no setting of this release: {names}", names=names)
    yield warning(what, _("correct the name, or remove it: docs/reference/settings.md lists all"))


def check_schedulers(folder: Path) -> Iterator[Finding]:
    """Check for a worker that is alive but whose scheduler is stuck."""
    running = 0
    for path in sorted(folder.glob("*")):
        try:
            age_s = time.time() - path.stat().st_mtime
            # A worker that was killed leaves its file, without its lock.
            if age_s > STUCK_S and is_locked(path):
                what = _(
                    "the scheduler of {name} has been stuck for {s:.0f} s", name=path.name, s=age_s
                )
                advice = _("read its log, then restart it; other workers do what is due meanwhile")
                yield error(what, advice)
            running += age_s <= STUCK_S
        except FileNotFoundError:  # it ended meanwhile
            continue
        except OSError as problem:
            what = _("{path} cannot be read: {why}", path=path, why=problem.strerror)
            yield error(what, _("let this user read it"))
    what = ngettext(
        "{n} scheduler of this machine's workers running",
        "{n} schedulers of this machine's workers running",
        running,
    )
    yield ok(what)


def check_api(settings: Settings) -> Iterator[Finding]:
    """Check whether the API is up and ready at its bind address.

    It may run on another machine, so its absence is no error.
    """
    where, (host, port) = shown(settings.api_bind), settings.api_bind
    url = f"http://{shown((ANYWHERE.get(host, host), port))}"
    if weakness := weak(settings.relay_secret):
        yield error(_("SMSQ_RELAY_SECRET is weak: smsq serve does not start with it"), weakness)
    if not any(one.report_token for one in settings.accounts):
        yield ok(_("SMSQ_REPORT_TOKEN is not set here, so the HTTP API is not checked"))
    elif not is_up(f"{url}/healthz"):
        advice = _("delivery reports need it: smsq serve, here or on another host")
        yield ok(_("no HTTP API answers at {where}", where=where), advice)
    else:
        yield ok(_("the HTTP API answers at {where}", where=where))
        if not is_up(f"{url}/readyz"):
            what = _(
                "the HTTP API at {where} is not ready: it does not reach Redis, or cannot write "
                "the reports in its spool to it",
                where=where,
            )
            advice = _("curl http://{where}/readyz says which; read its log", where=where)
            yield warning(what, advice)


def check_spool(folder: Path, max_bytes: int) -> Iterator[Finding]:
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
        what = _("{folder} cannot be used: {why}", folder=folder, why=problem.strerror)
        advice = _(
            "set SMSQ_HOME to a folder on a local disk that workers and the HTTP API can write to"
        )
        yield error(what, advice)
        return
    yield ok(_("{folder} is writable", folder=folder))
    yield _waiting(found)
    if taken > NEARLY * max_bytes:
        yield _nearly_full(taken, max_bytes)
    if bad:
        what = _(
            "{n} files in {folder} hold entries that could not be processed",
            n=len(bad),
            folder=folder,
        )
        advice = _(
            "inspect *{bad} there; if a newer release wrote it, upgrade and rename it to *{ready}",
            bad=BAD,
            ready=READY,
        )
        yield error(what, advice)


def _nearly_full(taken: int, max_bytes: int) -> Finding:
    what = _(
        "reports take {used} MiB of the {limit} MiB of SMSQ_REPORT_SPOOL_MB: the HTTP API refuses "
        "others while Redis does not take them",
        used=taken >> 20,
        limit=max_bytes >> 20,
    )
    advice = _("bring Redis back, or give it room; see docs/operate/runbook.md, SmsqReportFlood")
    return error(what, advice)


def _waiting(found: Sequence[tuple[int, float]]) -> Finding:
    count, waits_s = sum(entries for entries, _ in found), max((age for _, age in found), default=0)
    if not count:
        return ok(_("nothing waits in the spool"))
    what = _("{n} entries wait in the spool: Redis was away, or a process died", n=count)
    level = warning
    if waits_s > LONG_S:
        what, level = _("{what}; the oldest for {n:.0f} min", what=what, n=waits_s / 60), error
    advice = _("a worker (results) and the API (reports) of this machine write them to the ledger")
    return level(what, advice)


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
