"""The file of rows whose messages failed: in the columns of the file that was sent, or masked."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from smsq.contract import mask_phone, parse_phone
from smsq.errors import InvalidMessage
from smsq_worker.bulk_import import formulas
from smsq_worker.bulk_import.bad_rows import RowsOut, rows_file
from smsq_worker.bulk_import.bulk_file import BulkFile
from smsq_worker.bulk_import.records import Record
from smsq_worker.bulk_import.source import UTF_8, BadFile
from smsq_worker.domain.printable import escaped
from smsq_worker.infra.private_file import private_file
from smsq_worker.ledger.failures import Failure

TOLD: Final = ("line", "state", "reason")
"""Columns in addition to the file's own.

`send-file` takes no `state`: what may have arrived is among these rows, and `smsq redo`
tells it apart.
"""
_MASKED: Final = ("line", "state", "reason", "phone", "template", "reference", "id")


def write_rows(path: Path, failures: Iterable[Failure], file: BulkFile) -> tuple[int, int]:
    """Write those rows of a file whose messages failed; `failures` are in the order of their rows.

    Return how many were written, and how many failures are of none of its rows: of another file in
    the campaign, sent by an older release, or forgotten. Raises BadFile.
    """
    records, rest = file.rows().records, iter(failures)
    written = others = 0
    one = next(rest, None)
    with rows_file(path, file.source, file.encoding, "--failed") as out:
        writer = RowsOut(out, records, TOLD)
        for row in records:
            while one and (one.row is None or one.row <= row.line):
                if one.row == row.line and _is_of(one, row):
                    writer.write(row, (row.line, one.state, one.reason))
                    written += 1
                else:
                    others += 1
                one = next(rest, None)
            if one is None:
                break
        while one:
            others += 1
            one = next(rest, None)
    return written, others


def write_masked(path: Path, failures: Iterable[Failure]) -> int:
    """Write CSV of what the ledger knows of them; return how many. Raises BadFile."""
    count = 0
    try:
        with private_file(path, UTF_8) as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(_MASKED)
            for one in failures:
                texts = (one.state, one.reason, one.phone, one.template, one.reference, one.id)
                writer.writerow([one.row or "", *formulas.written(map(escaped, texts))])
                count += 1
    except OSError as error:
        raise BadFile(f"{path} cannot be written: {error.strerror}") from None
    return count


def _is_of(one: Failure, row: Record) -> bool:
    """Return whether a message is that of a row: what its mask shows, and a template it names."""
    try:
        phone = mask_phone(parse_phone(row.given.get("phone")))
    except InvalidMessage:
        return False
    return phone == one.phone and row.given.get("template", one.template) == one.template
