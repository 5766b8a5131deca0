"""What `smsq suppressed` and the commands below it do."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TextIO

import click

from smsq import audit
from smsq.cipher import Opener
from smsq.contract import Lane, mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq_worker.bulk_import.records import read_records
from smsq_worker.bulk_import.source import BadFile, Lines, Source, opened, scan
from smsq_worker.cli.helpers.asking import ask
from smsq_worker.cli.helpers.ledger_client import open_ledger
from smsq_worker.cli.helpers.output import echo, echo_json_part, echo_own, fail
from smsq_worker.cli.helpers.suppressed_csv import LISTED, read_list, read_time, write_list
from smsq_worker.domain.codes import UNTIL_LIFTED_S
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.i18n.told import told
from smsq_worker.infra.private_file import private_file
from smsq_worker.inspection.formatting import in_lanes, local, moment
from smsq_worker.ledger.admin import Control
from smsq_worker.ledger.suppressed import ALL_LANES, Suppressed

_UNTIL_LIFTED = timedelta(seconds=UNTIL_LIFTED_S)


def show(*, as_json: bool) -> None:
    """Print the list, masked."""
    count = 0
    for count, row in enumerate(_control().suppressed(), 1):
        if as_json:
            # One by one, as there may be very many.
            echo_own("[" if count == 1 else ",")
            echo_json_part(_as_dict(row))
        else:
            texts = (_(_phone(row)), local(row.since), local(row.until), row.reason)
            lanes = row.lanes if row.lanes != ALL_LANES else ()
            echo("  ".join(texts) + in_lanes(lanes))
    if as_json:
        echo_own("\n]" if count else "[]")
    else:
        echo(ngettext("{n} suppressed", "{n} suppressed", count))


def add(
    phones: tuple[str, ...],
    reason: str,
    lanes: tuple[str, ...],
    days: int | None,
    until: str | None,
    *,
    yes: bool,
) -> None:
    """Suppress numbers: until they are removed, for some days, or until a time."""
    end = _end(days, until)
    numbers = _numbers(phones)
    control = _control()
    _ask_to_suppress(len(numbers), yes=yes)
    for phone in numbers:
        act = audit.act(
            "suppressed add",
            phone=mask_phone(phone),
            lanes=" ".join(lanes),
            reason=reason,
            until=moment(end),
        )
        control.suppress(phone, reason, end, tuple(map(Lane, lanes)), act)
        words = N_("{phone}  suppressed{lanes} until {time}")
        if days is None and until is None:
            words = N_("{phone}  suppressed{lanes} until it is removed, at the latest until {time}")
        known = {"phone": mask_phone(phone), "lanes": in_lanes(lanes), "time": local(end)}
        echo(_(words, **known))


def remove(phones: tuple[str, ...], lanes: tuple[str, ...], *, yes: bool) -> None:
    """Lift the suppression of numbers. Exits with 1 where one was not suppressed."""
    numbers = _numbers(phones)
    control = _control()
    if len(numbers) > 1:
        words = ngettext(
            "this lets messages go to {n} number",
            "this lets messages go to {n} numbers",
            len(numbers),
        )
        ask(words, yes=yes)
    missing = False
    for phone in numbers:
        act = audit.act("suppressed remove", phone=mask_phone(phone), lanes=" ".join(lanes))
        done = control.unsuppress(phone, tuple(map(Lane, lanes)), act)
        missing |= not done
        words = _("removed") if done else _("was not suppressed")
        echo(f"{mask_phone(phone)}  {words}")
    raise SystemExit(1 if missing else 0)


def import_list(path: str, encoding: str | None, *, yes: bool) -> None:
    """Import a list: all of it, or nothing where a line is wrong, and exit with 1."""
    now = datetime.now(UTC)
    with opened(path) as source:
        found = _read(source, encoding, now)
    _ask_to_suppress(len(found), yes=yes, at_least=1)
    rows = chain.from_iterable(found.values())
    act = audit.act("suppressed import", file=path)
    count = _control().take_over((row for row in rows if row.until > now), act)
    over = len(found) - count
    words = ngettext("{n} number imported", "{n} numbers imported", count)
    if over:
        words = _("{words}, {n} left out: their time is over", words=words, n=over)
    echo(words)


def _ask_to_suppress(count: int, *, yes: bool, at_least: int = 2) -> None:
    if count >= at_least:
        words = ngettext("this suppresses {n} number", "this suppresses {n} numbers", count)
        ask(words, yes=yes)


def _read(source: Source, encoding: str | None, now: datetime) -> dict[str, tuple[Suppressed, ...]]:
    def complain(problem: str) -> None:
        echo(told(problem), err=True)

    try:
        if source.seekable:
            encoding = scan(source.file, encoding).encoding
            source.file.seek(0)
        records = read_records(Lines(source.file, encoding), source.name, LISTED)
        found = read_list(records, complain, now, now + _UNTIL_LIFTED)
    except BadFile as error:
        complain(str(error))
        found = None
    if found is None:
        fail(_("nothing was imported"))
    return found


def export_csv(file: str) -> None:
    """Write the list with full numbers to a file, or for - to stdout."""
    rows = _control().suppressed()
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(_opened(file))
        except OSError as error:
            words = _("{file} cannot be written: {why}", file=file, why=told(error.strerror or ""))
            raise click.UsageError(words) from None
        written, unknown = write_list(rows, stream)
    words = ngettext("{n} number exported", "{n} numbers exported", written)
    if unknown:
        words = _("{words}, {n} left out: only their digests are known", words=words, n=unknown)
    echo(words, err=True)


def _phone(row: Suppressed) -> str:
    return mask_phone(row.phone) if row.phone else N_("(digest)")


def _as_dict(row: Suppressed) -> dict[str, str | list[str]]:
    return {
        "phone": _phone(row),
        "since": moment(row.since),
        "until": moment(row.until),
        "reason": row.reason,
        "lanes": list(row.lanes),
    }


def _control() -> Control:
    settings, client = open_ledger(to_write=True)
    return Control(client, settings.rules, Opener(client, settings, strict=True))


def _numbers(phones: tuple[str, ...]) -> list[str]:
    """Read all numbers before anything is changed. Raises InvalidMessage."""
    found = []
    for n, phone in enumerate(phones, 1):
        try:
            found.append(parse_phone(phone))
        except InvalidMessage as error:
            if len(phones) == 1:
                raise
            raise InvalidMessage(f"PHONE {n} of {len(phones)}: {error}") from None
    return found


def _end(days: int | None, until: str | None) -> datetime:
    now = datetime.now(UTC)
    if until is None:
        return now + (_UNTIL_LIFTED if days is None else timedelta(days=days))
    if days is not None:
        raise click.UsageError(_("either --days or --until, not both"))
    try:
        end = read_time(until)
    except ValueError as error:
        raise click.UsageError(told(f"--until {error}")) from None
    if end <= now:
        raise click.UsageError(_("--until must be in the future"))
    return end


def _opened(file: str) -> AbstractContextManager[TextIO]:
    if file != "-":
        return private_file(Path(file), "utf-8")
    # In UTF-8, whatever the terminal's encoding: an import reads nothing else.
    return open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
