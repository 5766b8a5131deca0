"""Times as people write them: `10:00`, `2025-07-06 09:30`, `2h ago`, `昨天 10:00`."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Final

_UNITS: Final = {
    "seconds": ("s", "sec", "second", "秒"),
    "minutes": ("m", "min", "minute", "分", "分钟"),
    "hours": ("h", "hour", "小时"),
    "days": ("d", "day", "天"),
    "weeks": ("w", "week", "周"),
}
_UNIT_OF: Final = {name: unit for unit, names in _UNITS.items() for name in names}
_DAYS_AGO: Final = {"today": 0, "今天": 0, "yesterday": 1, "昨天": 1, "前天": 2}
_AGO: Final = re.compile(rf"(\d{{1,6}}) ?({'|'.join(_UNIT_OF)})s?(?: ?ago| ?之?前)?")
_CLOCK: Final = re.compile(r"(\d{1,2})[:：](\d\d)(?:[:：](\d\d))?")


def read_time(text: str, now: datetime) -> datetime:
    """Return the moment that a text means at `now`, in this machine's time zone unless it says.

    A time without a date is today's, a date without a time its beginning. Raises ValueError.
    """
    words = " ".join(text.lower().split())
    try:
        return _ago(words, now) or _of_a_day(words, now) or _iso(words)
    except OverflowError as error:
        raise ValueError(text) from error


def read_day(text: str, today: date) -> date:
    """Return the day that a text means: today, yesterday, 昨天 or 2025-07-06. Raises ValueError."""
    words = text.strip().lower()
    if words in _DAYS_AGO:
        return today - timedelta(days=_DAYS_AGO[words])
    return date.fromisoformat(words)


def _ago(words: str, now: datetime) -> datetime | None:
    if words in {"now", "现在"}:
        return now
    found = _AGO.fullmatch(words)
    return now - timedelta(**{_UNIT_OF[found[2]]: int(found[1])}) if found else None


def _of_a_day(words: str, now: datetime) -> datetime | None:
    day, _, clock = words.partition(" ")
    ago = _DAYS_AGO.get(day)
    if ago is None:
        ago, clock = 0, words
    elif not clock:
        clock = "0:00"
    found = _CLOCK.fullmatch(clock)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    at = now - timedelta(days=ago)
    return _here(at.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None))


def _iso(words: str) -> datetime:
    at = datetime.fromisoformat(words.upper())
    return at if at.tzinfo else _here(at)


def _here(at: datetime) -> datetime:
    # The zone's offset may have been another then.
    return at.astimezone()
