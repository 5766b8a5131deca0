"""Files of some rows of another, in its format: bad ones, or those whose message failed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from smsq_worker.bulk_import.columns import is_reported
from smsq_worker.bulk_import.formulas import protected
from smsq_worker.bulk_import.records import CsvRecords, Record, Records
from smsq_worker.bulk_import.source import UTF_8, BadFile, Source
from smsq_worker.infra.private_file import private_file


class RowsOut:
    """Writes rows as the user has them: with numbers and codes, so nobody else may read them."""

    def __init__(self, file: TextIO, records: Records, told: Sequence[str]) -> None:
        """`told` are the columns that each has in addition."""
        self._file = file
        self._told = told
        self._csv: Any = None
        if isinstance(records, CsvRecords):
            header = records.header
            self._kept = [i for i, name in enumerate(header) if not is_reported(name)]
            self._width = len(header)
            self._csv = csv.writer(file, delimiter=records.delimiter, lineterminator="\n")
            self._csv.writerow([*(header[i] for i in self._kept), *told])

    def write(self, row: Record, told: Sequence[object]) -> None:
        """Write a row, and what is wrong with it."""
        if self._csv:
            cells = row.cells if isinstance(row.cells, list) else [str(row.cells).rstrip("\r\n")]
            padded = cells + [""] * (self._width - len(cells))
            kept = [padded[i] for i in self._kept]
            whole = [*kept, *told, *padded[self._width :]]
            self._csv.writerow(protected(whole))
        else:
            whole_object = row.cells if isinstance(row.cells, dict) else {"row": row.cells}
            reported = dict(zip(self._told, told, strict=True))
            self._file.write(json.dumps(whole_object | reported, ensure_ascii=False) + "\n")


@contextmanager
def rows_file(path: Path, source: Source, encoding: str | None, option: str) -> Iterator[TextIO]:
    """Open a new file with mode 0600, in the encoding of the other. Raises BadFile."""
    with ExitStack() as stack:
        try:
            if path.exists() and os.path.samestat(path.stat(), os.fstat(source.file.fileno())):
                raise BadFile(f"{option} must not be the file that is sent")
            # At once: what is known of rows that were not sent outlives a crash. A lone surrogate
            # in JSON becomes its escape again.
            file = stack.enter_context(
                private_file(path, encoding or UTF_8, at_once=True, errors="backslashreplace")
            )
        except OSError as error:
            raise BadFile(f"{path} cannot be written: {error.strerror}") from None
        yield file
