"""The rows of a file, CSV or JSON Lines, checked one by one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, TypeAlias

from smsq.contract import Message, parse
from smsq.errors import InvalidMessage
from smsq_worker.bulk_import.columns import argument, arguments, unknown
from smsq_worker.bulk_import.source import MAX_LINE, BadFile, Lines

_DELIMITERS: Final = (",", ";", "\t")
_UNIX_SECONDS: Final = re.compile(r"\d{10}(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """A row. Its repr shows neither numbers nor codes."""

    line: int
    """Where it begins, counted from 1."""
    cells: list[str] | dict[str, Any] | str = field(repr=False)
    """As the file has it; a str where it could not be parsed."""
    given: dict[str, Any] = field(repr=False)
    """The arguments of send_sms; empty where there is a problem."""
    message: Message | None
    problem: str = ""
    """The rule that it breaks, and how."""


class CsvRows:
    """Rows of CSV; the header is read at once. A row may have line breaks inside quotes."""

    def __init__(self, lines: Lines, first: str, defaults: Mapping[str, Any]) -> None:
        """`first` is the header's line. Raises BadFile."""
        self._record = _Record(lines)
        self._defaults = defaults
        counts = {mark: first.count(mark) for mark in _DELIMITERS}
        self.delimiter = max(counts, key=counts.__getitem__)
        try:
            self.header = next(csv.reader([first], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise BadFile(f"line {lines.number}, the header, is no CSV: {error}") from None
        self._columns = arguments(self.header)

    def __iter__(self) -> Iterator[Row]:
        reader = csv.reader(self._record, delimiter=self.delimiter, strict=True)
        while True:
            self._record.begin()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._record.require_closed(str(error))
                text = self._record.text
                yield Row(self._record.line, text, {}, None, f"not CSV: {error}")
                continue
            if any(map(str.strip, cells)):
                yield self._row(cells)

    def _row(self, cells: list[str]) -> Row:
        line = self._record.line
        if len(cells) > len(self._columns):
            problem = f"{len(cells)} fields, and the header has {len(self._columns)}"
            return Row(line, cells, {}, None, problem)
        given = {
            name: text
            for name, cell in zip(self._columns, cells, strict=False)
            if name and (text := cell.strip())
        }
        return _checked(line, cells, given, self._defaults)


class JsonRows:
    """Rows of JSON Lines: one object a line."""

    def __init__(self, lines: Lines, first: str, defaults: Mapping[str, Any]) -> None:
        """`first` is the first line that is not blank."""
        self._lines = lines
        self._first = first
        self._defaults = defaults

    def __iter__(self) -> Iterator[Row]:
        yield self._row(self._first)
        for text in self._lines:
            if text.strip():
                yield self._row(text)

    def _row(self, text: str) -> Row:
        line = self._lines.number
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError):
            return Row(line, text, {}, None, "not JSON")
        if not isinstance(cells, dict):
            return Row(line, text, {}, None, "not a JSON object")
        names = {name: argument(name) for name in cells}
        unknown_names = [name for name, known in names.items() if known is None]
        if unknown_names:
            return Row(line, cells, {}, None, f"names {unknown(unknown_names)}")
        given: dict[str, Any] = {}
        for name, value in cells.items():
            known = names[name]
            if known and value is not None:
                if known in given:
                    return Row(line, cells, {}, None, f"more than one name for {known}")
                given[known] = value
        return _checked(line, cells, given, self._defaults)


Rows: TypeAlias = CsvRows | JsonRows


def read_rows(lines: Lines, name: str, defaults: Mapping[str, Any]) -> Rows:
    """Detect the format, by the file's name or the first character. Raises BadFile.

    `defaults` are arguments of send_sms for rows that lack them.
    """
    first = next((text for text in lines if text.strip()), None)
    if first is None:
        raise BadFile("the file is empty")
    begin = first.lstrip()[0]
    if begin == "[":
        raise BadFile("the file is a JSON array; write one object a line (JSON Lines)")
    is_json = PurePath(name).suffix.lower() in {".jsonl", ".ndjson"} or begin == "{"
    return (JsonRows if is_json else CsvRows)(lines, first, defaults)


class _Record:
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
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        self._parts.append(text)
        self._size += len(text)
        if self._size > MAX_LINE:
            raise self._unclosed()
        return text


def _checked(
    line: int,
    cells: list[str] | dict[str, Any],
    given: dict[str, Any],
    defaults: Mapping[str, Any],
) -> Row:
    try:
        given = {**defaults, **{name: _value(name, value) for name, value in given.items()}}
        return Row(line, cells, given, parse((), {"phone": "", "template": "", **given}))
    except InvalidMessage as error:
        return Row(line, cells, {}, None, str(error))


def _value(name: str, value: Any) -> Any:
    """Return a number where CSV has it as text."""
    if name == "ttl_s" and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise InvalidMessage("ttl_s must be a number of seconds; got another text") from None
    if name == "send_at" and isinstance(value, str) and _UNIX_SECONDS.fullmatch(value):
        return float(value)
    return value
