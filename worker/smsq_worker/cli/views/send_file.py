"""A run of `smsq send-file`: what it prints, and with which exit code it ends."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from smsq.contract import State, parse, parse_campaign
from smsq_worker.bulk_import.bulk_file import BulkFile
from smsq_worker.bulk_import.run import BadRows, BrokenOff, BulkImport, Run
from smsq_worker.bulk_import.source import opened
from smsq_worker.cli.helpers.asking import ask
from smsq_worker.cli.helpers.layout import padded
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.meter import meter
from smsq_worker.cli.helpers.output import echo_json, echo_lines, fail
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.i18n.told import told
from smsq_worker.inspection.formatting import clean, span, state_name

_NAMES: Final = 11
"""Columns of what a line is about."""
_STOPPED: Final = 130
"""What a shell reports for a command that Ctrl-C ended."""
_OF_ROWS: Final = ("template", "lane", "ttl_s", "send_at", "on_ambiguous", "reference")
_GOOD_ENDS: Final = {State.DELIVERED, State.DUPLICATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command; rows take the first six where they lack them."""

    template: str | None
    lane: str
    ttl_s: float | None
    send_at: str | None
    on_ambiguous: str | None
    reference: str | None
    key_prefix: str
    encoding: str | None
    bad_path: Path | None
    allow_notify: tuple[str, ...]
    campaign: str | None
    dry_run: bool
    anew: bool
    wait: bool
    failed_path: Path | None
    yes: bool
    as_json: bool
    quiet: bool

    def check(self) -> dict[str, Any]:
        """Return what rows take where they lack it. Raises UsageError, InvalidMessage."""
        if self.dry_run and self.wait:
            raise click.UsageError(_("either --dry-run or --wait, not both"))
        if self.failed_path and not self.wait:
            raise click.UsageError(_("--failed goes with --wait"))
        if self.campaign is not None:
            parse_campaign(self.campaign)
        given = {name: getattr(self, name) for name in _OF_ROWS}
        defaults = {name: value for name, value in given.items() if value is not None}
        # What would make every row bad.
        parse((), {"phone": "13000000000", "template": "any"} | defaults)
        return defaults


def send_file(path: str, options: Options) -> NoReturn:
    """Check a file, or enqueue it and follow its messages; print how it went, and exit."""
    defaults = options.check()
    settings, client = open_ledger()
    progress = partial(meter, quiet=options.quiet)
    try:
        with opened(path) as source:
            file = BulkFile(
                source, defaults, options.encoding, options.key_prefix, options.allow_notify
            )
            bulk = BulkImport(settings, client, file, options.bad_path, progress, options.campaign)
            if options.dry_run:
                report = bulk.dry_run()
                _show(report, options)
                raise SystemExit(1 if report["bad"] else 0)
            _send(bulk, options)
    except BrokenPipeError:  # Whoever reads the report has gone: as with every other command.
        raise
    except OSError as error:
        fail("smsq: " + _("the disk fails: {why}", why=error.strerror))
    except KeyboardInterrupt:
        fail("smsq: " + _("stopped; nothing was enqueued"), _STOPPED)


def _send(bulk: BulkImport, options: Options) -> NoReturn:
    home = bulk.settings.home
    with bulk.file.checkpoint(home, anew=options.anew, follow=options.wait) as checkpoint:
        run = Run(bulk, checkpoint)
        try:
            if checkpoint.progress.finished is None:
                run.enqueue(partial(_confirm, options))
            states = run.follow() if options.wait else set()
            if states - _GOOD_ENDS:
                run.find_failed(options.failed_path)
            _show(run.report(), options)
            raise SystemExit(1 if run.failed or states - _GOOD_ENDS else 0)
        except BadRows as error:
            _show(error.found.as_dict(), options, err=True)
            fail(f"smsq: {told(str(error))}", 2)
        except BrokenOff as error:
            _broken_off(run, options, str(error), 1)
        except KeyboardInterrupt:
            if checkpoint.progress.finished is None:
                _broken_off(run, options, "stopped", _STOPPED)
            _show(run.report(), options)
            words = (
                N_("stopped; the messages go on, and --wait without --anew follows them again")
                if options.anew
                else N_("stopped; the messages go on, and --wait follows them again")
            )
            fail(f"smsq: {_(words)}", _STOPPED)


def _confirm(options: Options, count: int) -> None:
    ask(ngettext("this enqueues {n} message", "this enqueues {n} messages", count), yes=options.yes)


def _broken_off(run: Run, options: Options, why: str, code: int) -> NoReturn:
    _show(run.report(), options, err=True)
    words = _(
        "{why}; {n} rows are enqueued. {how}",
        why=told(why),
        n=run.done,
        how=told(run.how_to_resume),
    )
    fail(f"smsq: {words}", code)


def _show(report: dict[str, Any], options: Options, *, err: bool = False) -> None:
    """Print a report; JSON always goes to stdout."""
    if options.as_json:
        echo_json(report)
        return
    echo_lines(_lines(report), err=err)


def _line(name: str, text: object) -> str:
    return f"{padded(name, _NAMES)} {text}"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    if "rows" in report:
        yield _line(_("rows"), report["rows"])
        yield _line(_("bad"), report["bad"])
        yield from (f"  {count} x {told(why)}" for why, count in report["reasons"].items())
        yield from _row_lines(report["bad_rows"])
    if "doubles" in report:
        yield from _dry_run_lines(report)
    if "enqueued" in report:
        yield from _run_lines(report)


def _dry_run_lines(report: dict[str, Any]) -> Iterator[str]:
    doubles = _("{n} rows repeat a number; they would be sent", n=report["doubles"])
    yield _line(_("doubles"), doubles)
    for row in report["double_rows"]:
        yield "  " + _("line {line}: {what}", line=row["line"], what=row["phone"])
    yield _line(_("suppressed"), report["suppressed"])
    would = _(
        "{n}, in {time} at {rate:g}/s; nothing was sent",
        n=report["would_be_sent"],
        time=span(report["seconds"]),
        rate=report["rate_per_s"],
    )
    yield _line(_("would send"), would)
    if report["expiring"]:
        yield _line("", _("That is longer than the shortest ttl_s: some would expire unsent"))


def _run_lines(report: dict[str, Any]) -> Iterator[str]:
    enqueued, before = report["enqueued"], report["before"]
    words = _("{n}, {before} of them by an earlier run", n=enqueued, before=before)
    yield _line(_("enqueued"), words if before else enqueued)
    yield _line(_("duplicates"), report["duplicates"])
    if "key_conflicts" in report:
        conflicts = report["key_conflicts"]
        yield "  " + _("{n} of them with another message's key; they are not sent", n=conflicts)
        yield from _row_lines(report["conflict_rows"])
        more = conflicts - len(report["conflict_rows"])
        if more:
            yield "  " + ngettext("and {n} more line", "and {n} more lines", more)
    if report.get("campaign"):
        name = shlex.quote(clean(report["campaign"]))
        yield _line(_("campaign"), clean(report["campaign"]))
        yield "  " + _("to stop it: smsq campaign cancel {name}", name=name)
    yield _line("ids", report["ids"])
    for state, count in sorted(report.get("states", {}).items()):
        yield _line(state_name(state), count)
    yield from _failed_lines(report)


def _failed_lines(report: dict[str, Any]) -> Iterator[str]:
    for row in report.get("failed_rows", ()):
        what = f"{state_name(row['state'])} {clean(row['reason'])}".rstrip()
        yield "  " + _("line {line}: {what}", line=row["line"] or "?", what=what)
    more = report.get("failed", 0) - len(report.get("failed_rows", ()))
    if more:
        yield "  " + ngettext("and {n} more", "and {n} more", more)
    if "failed_file" in report:
        yield from failed_file_lines(
            report["failed_file"], report["failed_written"], report["failed_without_row"]
        )
    if report.get("failed") and "campaign" in report:
        yield from how_to_go_on(report["campaign"], is_written="failed_file" in report)


def failed_file_lines(path: str, written: int, others: int) -> Iterator[str]:
    """Yield what was written of rows that failed."""
    yield ngettext("{n} row written to {path}", "{n} rows written to {path}", written, path=path)
    if others:
        yield ngettext(
            "{n} more is of no row of this file; without the file it is listed by its mask",
            "{n} more are of no row of this file; without the file they are listed by their masks",
            others,
        )


def how_to_go_on(campaign: str, *, is_written: bool) -> Iterator[str]:
    """Yield what an operator does about what failed in a campaign."""
    name = shlex.quote(clean(campaign))
    if not is_written:
        yield _("all of them: smsq campaign show {name} --failed out.csv --file FILE", name=name)
    yield _("send again what certainly did not arrive: smsq redo --campaign {name}", name=name)


def _row_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield "  " + _("line {line}: {what}", line=row["line"], what=told(row["reason"]))
