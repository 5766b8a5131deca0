"""The file of bad rows, in the format of the one they come from, with line and reason."""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from smsq_worker.bulk_import.columns import REPORTED
from smsq_worker.bulk_import.rows import CsvRows, Row, Rows
from smsq_worker.bulk_import.source import UTF_8, BadFile, Source


class BadRows:
    """Writes rows as the user has them: with numbers and codes, so nobody else may read them."""

    def __init__(self, file: TextIO, rows: Rows) -> None:
        self._file = file
        self._csv: Any = None
        if isinstance(rows, CsvRows):
            self._kept = [i for i, name in enumerate(rows.header) if _is_theirs(name)]
            self._width = len(rows.header)
            self._csv = csv.writer(file, delimiter=rows.delimiter, lineterminator="\n")
            self._csv.writerow([*(rows.header[i] for i in self._kept), *REPORTED])

    def write(self, row: Row) -> None:
        """Write a row and its problem."""
        if self._csv:
            cells = row.cells if isinstance(row.cells, list) else [str(row.cells).rstrip("\r\n")]
            padded = cells + [""] * (self._width - len(cells))
            kept = [padded[i] for i in self._kept]
            self._csv.writerow([*kept, row.line, row.problem, *padded[self._width :]])
        else:
            whole = row.cells if isinstance(row.cells, dict) else {"row": row.cells}
            reported = whole | dict(zip(REPORTED, (row.line, row.problem), strict=True))
            self._file.write(json.dumps(reported, ensure_ascii=False) + "\n")


@contextmanager
def bad_rows(path: Path, rows: Rows, source: Source, encoding: str | None) -> Iterator[BadRows]:
    """Open a new file with mode 0600, in the encoding of the other. Raises BadFile."""
    try:
        if path.exists() and os.path.samestat(path.stat(), os.fstat(source.file.fileno())):
            raise BadFile("--bad-rows must not be the file that is sent")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadFile(f"{path} cannot be written: {error.strerror}") from None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        os.fchmod(handle, 0o600)
        os.ftruncate(handle, 0)
    # A lone surrogate in JSON becomes its escape again.
    with os.fdopen(
        handle, "w", encoding=encoding or UTF_8, errors="backslashreplace", newline=""
    ) as file:
        yield BadRows(file, rows)


def _is_theirs(name: str) -> bool:
    return name.strip().lower() not in REPORTED
