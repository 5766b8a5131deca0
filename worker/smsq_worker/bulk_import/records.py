"""The records of a file, CSV or JSON Lines, by the names of their columns."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, TypeAlias

from smsq_worker.bulk_import import formulas
from smsq_worker.bulk_import.columns import Columns
from smsq_worker.bulk_import.source import MAX_LINE, BadFile, Lines

_DELIMITERS: Final = (",", ";", "\t")
_NO_CELL: Final = "".join(_DELIMITERS)
_CR: Final = "new-line character seen in unquoted field"


@dataclass(frozen=True, slots=True)
class Record:
    """A row or an object. Its repr shows neither numbers nor codes."""

    line: int
    """Where it begins, counted from 1."""
    cells: list[str] | dict[str, Any] | str = field(repr=False)
    """As the file has it; a str where it could not be parsed."""
    given: dict[str, Any] = field(repr=False)
    """What it says, by argument; empty where there is a problem."""
    problem: str = ""


class CsvRecords:
    """Records of CSV; the header is read at once. A row may have line breaks inside quotes."""

    def __init__(self, lines: Lines, first: str, columns: Columns) -> None:
        """`first` is the header's line. Raises BadFile."""
        self._text = _Text(lines)
        counts = {mark: first.count(mark) for mark in _DELIMITERS}
        self.delimiter = max(counts, key=counts.__getitem__)
        try:
            self.header = next(csv.reader([first], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise BadFile(f"line {lines.number}, the header, is no CSV: {error}") from None
        self._arguments = columns.arguments(self.header)

    def __iter__(self) -> Iterator[Record]:
        reader = csv.reader(self._text, delimiter=self.delimiter, strict=True)
        while True:
            self._text.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._text.require_closed(str(error))
                yield Record(self._text.line, self._text.text, {}, _no_csv(str(error)))
                continue
            if any(map(str.strip, cells)):
                yield self._record(cells)

    def _record(self, cells: list[str]) -> Record:
        line = self._text.line
        named = len(self._arguments)
        if any(map(str.strip, cells[named:])):
            return Record(line, cells, {}, f"{len(cells)} fields, and the header has {named}")
        given = {}
        for n, (name, cell) in enumerate(zip(self._arguments, cells, strict=False)):
            text = cell.strip()
            if text and name:
                given[name] = formulas.read(text).strip()
            elif text and not self.header[n].strip():
                problem = f"field {n + 1} is not empty, and the header does not name its column"
                return Record(line, cells, {}, problem)
        return Record(line, cells, given)


class JsonRecords:
    """Records of JSON Lines: one object a line."""

    def __init__(self, lines: Lines, first: str, columns: Columns) -> None:
        """`first` is the first line that is not blank."""
        self._lines = lines
        self._first = first
        self._columns = columns

    def __iter__(self) -> Iterator[Record]:
        yield self._record(self._first)
        for text in self._lines:
            if text.strip():
                yield self._record(text)

    def _record(self, text: str) -> Record:
        line = self._lines.number
        try:
            cells = json.loads(text, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            return Record(line, text, {}, "not JSON")
        if not isinstance(cells, _Object):
            return Record(line, text, {}, "not a JSON object")
        names = {name: self._columns.argument(name) for name in cells}
        unknown_names = [name for name, known in names.items() if known is None]
        if unknown_names:
            return Record(line, cells, {}, f"names {self._columns.unknown(unknown_names)}")
        for name in filter(None, map(names.get, cells.repeated)):
            # Whole: of an object only one of the values would be left.
            return Record(line, text, {}, f"{name} is there more than once")
        given: dict[str, Any] = {}
        for name, value in cells.items():
            known = names[name]
            if known and value is not None:
                if known in given:
                    return Record(line, cells, {}, f"more than one name for {known}")
                given[known] = value
        return Record(line, cells, given)


class _Object(dict[str, Any]):
    """A JSON object, and its names that are there more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(name for name, _ in pairs) if len(self) < len(pairs) else {}
        self.repeated = [name for name, count in counts.items() if count > 1]


Records: TypeAlias = CsvRecords | JsonRecords


def read_records(lines: Lines, name: str, columns: Columns) -> Records:
    """Detect the format, by the file's name or the first character. Raises BadFile."""
    # A spreadsheet writes its blank rows as delimiters alone.
    first = next((text for text in lines if text.strip().strip(_NO_CELL).strip()), None)
    if first is None:
        raise BadFile("the file is empty")
    begin = first.lstrip()[0]
    if begin == "[":
        raise BadFile("the file is a JSON array; write one object a line (JSON Lines)")
    is_json = PurePath(name).suffix.lower() in {".jsonl", ".ndjson"} or begin == "{"
    return (JsonRecords if is_json else CsvRecords)(lines, first, columns)


class _Text:
    """Feeds csv.reader, and keeps the text of the current record.

    It bounds that: a quote that is never closed would swallow the rest of the file.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._parts: list[str] = []
        self._size = 0
        self.line = 0

    def begin(self) -> None:
        self._parts.clear()
        self._size = 0
        self.line = self._lines.number + 1

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def require_closed(self, why: str) -> None:
        """Raise BadFile where the file ended in quotes."""
        if why == "unexpected end of data":
            raise self._unclosed()

    def _unclosed(self) -> BadFile:
        return BadFile(f"line {self.line}: a quote is opened in this row and never closed")

    def __iter__(self) -> Iterator[str]:
        for text in self._lines:
            self._parts.append(text)
            self._size += len(text)
            if self._size > MAX_LINE:
                raise self._unclosed()
            yield text


def _no_csv(why: str) -> str:
    if why.startswith(_CR):
        why = "a CR without a LF is inside the row; a line ends with LF or CRLF"
    return f"not CSV: {why}"
