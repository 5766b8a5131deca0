"""The rows of a file of messages, checked one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smsq.contract import Message, parse
from smsq.errors import InvalidMessage
from smsq_worker.bulk_import.columns import TO_SEND
from smsq_worker.bulk_import.records import CsvRecords, Record, read_records
from smsq_worker.bulk_import.source import Lines

_UNIX_SECONDS: Final = re.compile(r"\d{10}(\.\d+)?", re.ASCII)
_SPREADSHEET: Final = re.compile(r"\d+\.0|\d(\.\d+)?E\+?\d+", re.ASCII | re.IGNORECASE)
_CODE_RULE: Final = (
    "code looks like a number that a spreadsheet or pandas has rewritten (1234.0, 1.2E+05): "
    "zeros or digits may be gone; make its column text, or write JSON Lines if it is meant so"
)
_NOTIFY_RULE: Final = (
    "notify must be a task that --allow-notify names: else a file could have any task called"
)


@dataclass(frozen=True, slots=True)
class Row(Record):
    """A record as a message, or the rule that it breaks. `given` are the arguments of send_sms."""

    message: Message | None = None


class Rows:
    """The records of a file as messages. Raises BadFile.

    `defaults` are arguments of send_sms for those that lack them.
    """

    def __init__(
        self, lines: Lines, name: str, defaults: Mapping[str, Any], notify: tuple[str, ...] = ()
    ) -> None:
        """`name` is the file's, `notify` are the tasks that a row may name."""
        self.records = read_records(lines, name, TO_SEND)
        self._defaults = defaults
        self._notify = notify

    def __iter__(self) -> Iterator[Row]:
        for record in self.records:
            if record.problem:
                yield Row(record.line, record.cells, {}, record.problem)
            else:
                yield self._row(record)

    def _row(self, record: Record) -> Row:
        line, cells = record.line, record.cells
        try:
            self._check(record.given)
            given = {name: _value(name, value) for name, value in record.given.items()}
            given = {**self._defaults, **given}
            message = parse((), {"phone": "", "template": "", **given})
            return Row(line, cells, given, message=message)
        except InvalidMessage as error:
            return Row(line, cells, {}, str(error))

    def _check(self, given: Mapping[str, Any]) -> None:
        """Check what is a rule of files, not of messages. Raises InvalidMessage."""
        is_csv = isinstance(self.records, CsvRecords)
        if is_csv and _SPREADSHEET.fullmatch(given.get("code", "")):
            raise InvalidMessage(_CODE_RULE)
        if "notify" in given and given["notify"] not in self._notify:
            raise InvalidMessage(_NOTIFY_RULE)


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
