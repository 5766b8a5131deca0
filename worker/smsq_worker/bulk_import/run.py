"""The act of `smsq send-file`: check the rows, enqueue them, follow the messages, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from smsq.cipher import Opener
from smsq.connection import Client
from smsq.contract import State, mask_phone
from smsq.errors import CampaignCancelled, SmsqError
from smsq_worker.bulk_import.bulk_file import BulkFile
from smsq_worker.bulk_import.check import CheckResult, Listed, Numbers, checked
from smsq_worker.bulk_import.checkpoint import Checkpoint
from smsq_worker.bulk_import.enqueue import Enqueuer
from smsq_worker.bulk_import.failed_rows import write_masked, write_rows
from smsq_worker.bulk_import.follow import follow
from smsq_worker.bulk_import.rows import Row
from smsq_worker.bulk_import.source import BadFile
from smsq_worker.config.settings import Settings
from smsq_worker.i18n import N_, _
from smsq_worker.inspection.accounts import rate_now
from smsq_worker.inspection.formatting import pause_line, state_name
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.failures import Failure, failures_among
from smsq_worker.ledger.suppressed import SuppressedCounter

_DOUBLES_SHOWN: Final = 10
_KEPT_BY_A_PAUSE: Final = {State.QUEUED, State.DEFERRED}

Meter: TypeAlias = Callable[
    [str, int | None, int], AbstractContextManager[Callable[[int, str], None]]
]
"""Opens a display of progress: what is done, of how many, and how many were done before."""


class BadRows(Exception):  # noqa: N818 - says what is so
    """The check found bad rows, and nowhere to put them; nothing was enqueued now."""

    def __init__(self, found: CheckResult) -> None:
        super().__init__("nothing was sent now: fix these rows or pass --bad-rows FILE")
        self.found = found


class BrokenOff(Exception):  # noqa: N818 - says what is so
    """The run ended before its last row; what is enqueued stays so. The text says why."""


@dataclass(frozen=True, slots=True)
class BulkImport:
    """What the passes over a file need."""

    settings: Settings
    client: Client = field(repr=False)
    file: BulkFile
    bad_path: Path | None
    """Where bad rows go; None where there must be none."""
    meter: Meter
    campaign: str | None = None
    """Its name where one was given."""

    def dry_run(self) -> dict[str, Any]:
        """Check everything, and return what a run would do. Raises BadFile, LedgerUnavailable."""
        cipher = Opener(self.client, self.settings, strict=True)
        # First, so that an unreachable ledger is noticed before the file is read.
        rules = self.settings.rules
        rate = rate_now(Control(self.client, rules, cipher), rules)
        numbers = Numbers()
        lookup = SuppressedCounter(self.client, self.settings.redis_url, cipher())

        def look_up(row: Row) -> None:
            if row.message:
                numbers.add(row.message.phone, row.line)
                lookup.add(row.message.phone, row.message.lane)

        found = self.check(look_up)
        suppressed = lookup.count()
        seconds = (found.good - suppressed) / rate
        doubles, first = numbers.doubles(_DOUBLES_SHOWN)
        return found.as_dict() | {
            "doubles": doubles,
            "double_rows": [{"line": line, "phone": mask_phone(phone)} for line, phone in first],
            "suppressed": suppressed,
            "would_be_sent": found.good - suppressed,
            "rate_per_s": rate,
            "seconds": round(seconds, 1),
            "expiring": seconds > found.least_ttl_s,
        }

    def check(self, visit: Callable[[Row], None] = lambda _row: None) -> CheckResult:
        """Check every row, and enqueue nothing; call `visit` with each. Raises BadFile."""
        found, rows = CheckResult(), self.file.rows()
        with (
            self.file.bad_rows(self.bad_path, rows) as bad,
            self.meter(N_("checked"), None, 0) as step,
        ):
            for row in checked(rows, found, bad):
                visit(row)
                if not found.rows % 1000:
                    step(found.rows, "")
            step(found.rows, "")
        if not found.rows:
            raise BadFile("the file has no row")
        return found


class Run:
    """One run that enqueues a file. Its report can be read at any time, also after an error."""

    def __init__(self, bulk: BulkImport, checkpoint: Checkpoint) -> None:
        self._bulk = bulk
        self._file = bulk.file
        self._checkpoint = checkpoint
        self._before = checkpoint.progress.enqueued
        self._found = CheckResult()
        self._conflicts = Listed()
        self._states: Counter[str] | None = None
        self._campaign = ""
        self._is_cancelled = False
        self._failed: dict[str, Any] = {}

    @property
    def failed(self) -> bool:
        """Return whether a row was left out."""
        return bool(self._found.bad.count or self._conflicts.count)

    @property
    def done(self) -> int:
        """Return how many rows are enqueued or were refused as duplicates."""
        return self._checkpoint.progress.done

    @property
    def how_to_resume(self) -> str:
        """Return the advice on how to enqueue what is missing."""
        if self._is_cancelled:
            return (
                "The same command with another --campaign goes on with the rest; with --anew, too, "
                "it sends all of the file"
            )
        if self._file.source.seekable:
            return "The same command goes on with the rest, and enqueues no row twice"
        return (
            "The same input with the same keys, within 24 h, enqueues the rest: what is enqueued "
            "already is refused as a duplicate"
        )

    def enqueue(self, confirm: Callable[[int], None] = lambda _n: None) -> None:
        """Check what can be read twice, and enqueue what is not enqueued yet.

        `confirm` is called with the number of rows to enqueue, where it is known.
        Raises BadRows and BadFile where nothing is enqueued, and BrokenOff.
        """
        if self._file.source.seekable:
            self._found = self._bulk.check()
            if self._found.bad.count and not self._bulk.bad_path:
                raise BadRows(self._found)
            confirm(self._found.good - self.done)
        try:
            self._enqueue()
        except BadFile as error:
            if not self.done:
                raise
            raise BrokenOff(str(error)) from None
        except SmsqError as error:
            raise BrokenOff(self._why(error)) from None
        except OSError as error:
            raise BrokenOff(f"the disk fails: {error.strerror}") from None
        if self._found.bad.count and not self._bulk.bad_path:
            (bad,) = self._found.bad.first
            raise BrokenOff(f"line {bad['line']}: {bad['reason']}")
        self._checkpoint.finish()

    def follow(self) -> set[str]:
        """Wait until all messages are final or held; return their states."""
        bulk = self._bulk
        with bulk.meter(N_("ended"), self.done, 0) as step:
            control = Control(bulk.client, bulk.settings.rules)

            def show(states: Counter[str], live: int) -> None:
                words = [
                    _(", ").join(f"{state_name(state)} {n}" for state, n in sorted(states.items()))
                ]
                if set(states) & _KEPT_BY_A_PAUSE:
                    words += map(pause_line, control.pauses())
                step(states.total() - live, _("; ").join(words))

            url = bulk.settings.redis_url
            self._states = follow(bulk.client, url, self._checkpoint.ids_path, show)
        return set(self._states)

    def find_failed(self, path: Path | None) -> None:
        """Find the rows whose messages failed; write them to a file, if there is one.

        Raises LedgerUnavailable and BadFile.
        """
        if not self._campaign and self._file.source.seekable:  # all were enqueued before
            run = self._checkpoint.progress.run
            self._campaign = self._bulk.campaign or self._file.campaign(run)
        seen, written, others = Listed(), 0, 0
        failures = self._failures(seen)
        if path and self._file.source.seekable:
            written, others = write_rows(path, failures, self._file)
        elif path:
            written = write_masked(path, failures)
        for _one in failures:  # where nothing was written
            pass
        self._failed = {"failed": seen.count, "failed_rows": seen.first}
        if path:
            self._failed |= {"failed_file": str(path), "failed_written": written}
            self._failed |= {"failed_without_row": others}

    def _failures(self, seen: Listed) -> Iterator[Failure]:
        url = self._bulk.settings.redis_url
        with self._checkpoint.ids_path.open(encoding="ascii") as ids:
            for one in failures_among(self._bulk.client, url, map(str.rstrip, ids)):
                seen.add(one.row, one.reason, state=one.state)
                yield one

    def report(self) -> dict[str, Any]:
        """Return how far it has come and what was found, as JSON shows it."""
        progress = self._checkpoint.progress
        # Where everything was enqueued before, nothing is checked again.
        report = self._found.as_dict() if self._found.rows else {}
        if self._conflicts.count:
            report["key_conflicts"] = self._conflicts.count
            report["conflict_rows"] = self._conflicts.first
        report |= {
            "enqueued": progress.enqueued + progress.before,
            "before": self._before + progress.before,
            "duplicates": progress.duplicates,
            "ids": str(self._checkpoint.ids_path),
            "finished": progress.finished is not None,
        }
        if self._campaign:
            report["campaign"] = self._campaign
        report |= self._failed
        return report if self._states is None else report | {"states": dict(self._states)}

    def _enqueue(self) -> None:
        bulk, file, progress = self._bulk, self._file, self._checkpoint.progress
        self._checkpoint.begin()
        rows = file.rows()
        key = file.key(progress.run)
        with ExitStack() as stack:
            taken = iter(rows)
            total = self._found.good if file.source.seekable else None
            if not file.source.seekable:
                bad = stack.enter_context(file.bad_rows(bulk.bad_path, rows))
                taken = checked(rows, self._found, bad, need_keys=key is None, stop_at_bad=True)
            step = stack.enter_context(bulk.meter(N_("enqueued"), total, self.done))
            self._campaign = bulk.campaign or file.campaign(progress.run)
            refused = self._conflicts.add
            enqueuer = Enqueuer(self._checkpoint, file.source, refused, self._campaign)
            enqueuer.enqueue(taken, key, lambda n: step(n, ""))
        if not (self._found.rows or self.done):
            raise BadFile("the file has no row")

    def _why(self, error: SmsqError) -> str:
        if isinstance(error, CampaignCancelled):
            self._is_cancelled = True
            return f"campaign {error.campaign} was cancelled, and takes no more"
        # Its text has the count of this run; its cause is the error alone.
        return str(error.__cause__ or error)
