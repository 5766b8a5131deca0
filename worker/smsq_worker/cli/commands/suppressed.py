"""`smsq suppressed`: numbers to which nothing is sent."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, TextIO

import click

from smsq.cipher import opener
from smsq.contract import mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq_worker.cli.helpers.groups import Group
from smsq_worker.cli.helpers.numberlist import BadList, read_list, read_time, write_list
from smsq_worker.cli.helpers.words import check_reason
from smsq_worker.cli.helpers.writing import to_write
from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import UNTIL_LIFTED_S
from smsq_worker.infra.wording import moment
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.suppressed import Suppressed

UNTIL_LIFTED = timedelta(seconds=UNTIL_LIFTED_S)

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq suppressed
  smsq suppressed add 13800138000 --reason 'asked for it' --days 30
  smsq suppressed remove 13800138000
  smsq suppressed export backup.csv
  smsq suppressed import backup.csv
"""
_LIST_EXAMPLES = """\b
Examples:
  smsq suppressed list
  smsq suppressed list --json
"""
_ADD_EXAMPLES = """\b
Examples:
  smsq suppressed add 13800138000 '+86 139-0013-9000'
  smsq suppressed add 13800138000 --reason 'asked for it' --until 2030-01-31
"""
_REMOVE_EXAMPLES = """\b
Examples:
  smsq suppressed remove 13800138000
"""
_IMPORT_EXAMPLES = """\b
Examples:
  smsq suppressed import numbers.csv
  smsq suppressed export | ssh elsewhere smsq suppressed import -
A file:
  phone,reason,since,until
  13800138000,asked for it,2026-01-31T08:00:00+08:00,2030-01-31
  13900139000,,,
"""
_EXPORT_EXAMPLES = """\b
Examples:
  smsq suppressed export backup.csv
  smsq suppressed export > backup.csv
"""


@click.group(cls=Group, invoke_without_command=True, epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def suppressed(ctx: click.Context, *, as_json: bool) -> None:
    """List the numbers to which nothing is sent, masked; the commands below change the list.

    Delivery reports that say a number is out of service or has opted out add it by themselves;
    `smsq codes` says which. A message to such a number fails at once, with local:suppressed.
    """
    if not ctx.invoked_subcommand:
        _show(as_json=as_json)


@suppressed.command("list", epilog=_LIST_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show(ctx: click.Context, *, as_json: bool) -> None:
    """List the numbers, masked, in no order."""
    before = ctx.parent is not None and ctx.parent.params["as_json"]
    _show(as_json=as_json or before)


@suppressed.command(epilog=_ADD_EXAMPLES)
@click.argument("phones", metavar="PHONE...", nargs=-1, required=True)
@click.option("--reason", default="operator", callback=check_reason, show_default=True)
@click.option("--days", type=click.IntRange(1, UNTIL_LIFTED.days), help="For so many days.")
@click.option("--until", metavar="ISO-DATE", help="Until this date (UTC) or time.")
def add(phones: tuple[str, ...], reason: str, days: int | None, until: str | None) -> None:
    """Send nothing to these numbers; until they are removed, or for a time."""
    end = _end(days, until)
    numbers = _numbers(phones)
    control = _control()
    for phone in numbers:
        control.suppress(phone, reason, end)
        click.echo(f"{mask_phone(phone)}  suppressed until {moment(end)}")


@suppressed.command(epilog=_REMOVE_EXAMPLES)
@click.argument("phones", metavar="PHONE...", nargs=-1, required=True)
def remove(phones: tuple[str, ...]) -> None:
    """Send to these numbers again. Exits with 1 where one was not suppressed."""
    numbers = _numbers(phones)
    control = _control()
    missing = 0
    for phone in numbers:
        done = control.unsuppress(phone)
        missing += not done
        click.echo(f"{mask_phone(phone)}  {'removed' if done else 'was not suppressed'}")
    raise SystemExit(1 if missing else 0)


@suppressed.command("import", epilog=_IMPORT_EXAMPLES)
@click.argument("file", type=click.File("rb"))
def import_(file: BinaryIO) -> None:
    """Take over the numbers of a CSV file; - is stdin. What is known of them is replaced.

    Without a time a number is suppressed until it is removed. If any line is wrong, all wrong
    lines are named, nothing is imported, and the exit code is 1.
    """
    now = datetime.now(UTC)
    # Bytes that are no UTF-8 become what no rule allows, so that their lines are named.
    try:
        with io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as lines:
            found = read_list(lines, _complain, now, now + UNTIL_LIFTED)
    except BadList:
        click.echo("nothing was imported", err=True)
        raise SystemExit(1) from None
    count = _control().take_over(row for row in found.values() if row.until > now)
    over = len(found) - count
    click.echo(f"{count} numbers imported" + f", {over} left out: their time is over" * bool(over))


@suppressed.command(epilog=_EXPORT_EXAMPLES)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
def export(file: str) -> None:
    """Write the list as CSV to a file that nobody else may read, or to stdout.

    The numbers are NOT masked: that is what it is for.
    """
    rows = _control().suppressed()
    with _stdout() if file == "-" else _private_file(Path(file)) as stream:
        written, unknown = write_list(rows, stream)
    left_out = f", {unknown} left out: only their digests are known" * bool(unknown)
    click.echo(f"{written} numbers exported{left_out}", err=True)


def _show(*, as_json: bool) -> None:
    count = 0
    for count, row in enumerate(_control().suppressed(), 1):
        if as_json:
            # One by one, as there may be very many.
            click.echo("[" if count == 1 else ",")
            click.echo(json.dumps(_as_dict(row), ensure_ascii=False), nl=False)
        else:
            click.echo("  ".join(_as_dict(row).values()))
    if as_json:
        click.echo("\n]" if count else "[]")
    else:
        click.echo(f"{count} suppressed")


def _as_dict(row: Suppressed) -> dict[str, str]:
    return {
        "phone": mask_phone(row.phone) if row.phone else "(digest)",
        "since": moment(row.since),
        "until": moment(row.until),
        "reason": row.reason,
    }


def _control() -> Control:
    settings = Settings.load(os.environ)
    client = to_write(settings)
    return Control(client, settings.rules, opener(client, settings, strict=True))


def _numbers(phones: tuple[str, ...]) -> list[str]:
    """Read all numbers before anything is done. Raises InvalidMessage."""
    found = []
    for n, phone in enumerate(phones, 1):
        try:
            found.append(parse_phone(phone))
        except InvalidMessage as error:
            which = f"PHONE {n} of {len(phones)}: " * (len(phones) > 1)
            raise InvalidMessage(f"{which}{error}") from None
    return found


def _end(days: int | None, until: str | None) -> datetime:
    now = datetime.now(UTC)
    if until is None:
        return now + (UNTIL_LIFTED if days is None else timedelta(days=days))
    if days is not None:
        raise click.UsageError("either --days or --until, not both")
    try:
        end = read_time(until)
    except ValueError as error:
        raise click.UsageError(f"--until {error}") from None
    if end <= now:
        raise click.UsageError("--until must be in the future")
    return end


def _complain(words: str) -> None:
    click.echo(words, err=True)


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Give stdout in UTF-8, whatever the terminal's encoding: an import reads nothing else."""
    with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as stream:
        yield stream


@contextmanager
def _private_file(path: Path) -> Iterator[TextIO]:
    """Write a file that appears when it is complete, with mode 0600."""
    path = path.resolve()
    if path.exists() and not path.is_file():  # such as a pipe, which cannot be replaced
        with path.open("w", encoding="utf-8") as stream:
            yield stream
        return
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise click.UsageError(f"cannot write in {path.parent}: {error.strerror}") from None
    try:
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            yield stream
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
