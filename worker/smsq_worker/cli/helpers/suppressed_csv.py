"""A list of suppressed numbers: phone,reason,since,until,lanes, the times in ISO 8601."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO

from smsq.contract import Lane, parse_phone
from smsq_worker.bulk_import import formulas
from smsq_worker.bulk_import.columns import PHONE_ALIASES, Columns
from smsq_worker.bulk_import.records import Record, Records
from smsq_worker.cli.helpers.options import REASON_RULE, is_reason
from smsq_worker.ledger.suppressed import ALL_LANES, Suppressed, laid_over

COLUMNS: Final = ("phone", "reason", "since", "until", "lanes")
LISTED: Final = Columns(
    aliases={"phone": PHONE_ALIASES, "reason": ("原因",), "since": (), "until": (), "lanes": ()},
    skipped=(),
    allowed="allowed are phone, or 手机号, 电话, and reason, since, until, lanes",
)
IMPORTED: Final = "imported"

_TIME_RULE: Final = (
    "must be an ISO 8601 time with an offset, like 2030-01-31T08:00:00+08:00, or a date, which "
    "means its beginning in UTC"
)
_LANES_RULE: Final = f"lanes must be some of {' '.join(Lane)} with blanks between, or empty for all"
_DATE: Final = len("2030-01-31")


def read_time(text: str) -> datetime:
    """Read an ISO 8601 time or date. Raises ValueError with what is allowed."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None or len(text) <= _DATE:
            return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(_TIME_RULE)


def read_list(
    records: Records, complain: Callable[[str], None], since: datetime, until: datetime
) -> dict[str, tuple[Suppressed, ...]] | None:
    """Read a list, by number: the last line of each lane counts. None where any line is bad.

    `since` and `until` are the defaults. Calls `complain` for every bad line, with what is
    allowed. Raises BadFile where the file cannot be read.
    """
    defaults = {
        "reason": IMPORTED,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "lanes": "",
    }
    found: dict[str, tuple[Suppressed, ...]] = {}
    bad = False
    for record in records:
        try:
            row = _row(record, defaults)
        except ValueError as problem:
            complain(f"line {record.line}: {problem}")
            bad = True
        else:
            found[row.phone] = laid_over(found.get(row.phone, ()), row)
    return None if bad else found


def write_list(rows: Iterable[Suppressed], file: TextIO) -> tuple[int, int]:
    """Write a list; return how many rows, and how many were left out for lack of a number."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    written = unknown = 0
    for row in rows:
        if row.phone:
            times = (row.since.isoformat(), row.until.isoformat())
            lanes = "" if row.lanes == ALL_LANES else " ".join(row.lanes)
            writer.writerow(formulas.written((row.phone, row.reason, *times, lanes)))
            written += 1
        else:
            unknown += 1
    return written, unknown


def _row(record: Record, defaults: dict[str, str]) -> Suppressed:
    """Read a row. Raises ValueError, InvalidMessage among them."""
    if record.problem:
        raise ValueError(record.problem)
    row: dict[str, Any] = defaults | record.given
    return Suppressed(
        phone=parse_phone(row.get("phone", "")),
        reason=_reason(str(row["reason"])),
        since=_time("since", str(row["since"])),
        until=_time("until", str(row["until"])),
        lanes=_lanes(str(row["lanes"])),
    )


# Reasons and times repeat: a row then costs little more than its number.
@lru_cache(maxsize=1024)
def _reason(text: str) -> str:
    if not is_reason(text):
        raise ValueError(f"reason must be {REASON_RULE}")
    return text


@lru_cache(maxsize=1024)
def _lanes(text: str) -> tuple[Lane, ...]:
    names = set(text.lower().split())
    if not names <= set(Lane):
        raise ValueError(_LANES_RULE)
    return tuple(lane for lane in Lane if lane in names) or ALL_LANES


@lru_cache(maxsize=1024)
def _time(name: str, text: str) -> datetime:
    try:
        return read_time(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
