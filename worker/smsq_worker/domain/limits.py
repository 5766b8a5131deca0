"""Limits as an operator writes them in settings; each parser's ValueError says how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from smsq.contract import Lane

DAY_MIN: Final = 1440
_SHANGHAI: Final = timezone(timedelta(hours=8))  # without summer time
_PHONE_LIMIT: Final = ((1, 1000), (1, 31 * 86_400))
# The ledger keeps the last N attempts for the share of failures, and reads all of them.
_BREAKER: Final = ((1, 500), (10, 100), (1, 3600))
_TEMPLATE_PAUSE: Final = ((1, 100_000), (1, 100), (60, 86_400))

_PHONE_LIMIT_RULE: Final = (
    "MESSAGES/SECONDS with commas between, like 1/60,5/3600,10/86400, from 1 to 1000 messages and "
    "2678400 seconds; empty turns it off"
)
_BREAKER_RULE: Final = (
    "CALLS/PERCENT/SECONDS, like 20/50/60, of 1 to 500 calls, 10 to 100 percent and 1 to 3600 "
    "seconds; empty turns it off"
)
_TEMPLATE_PAUSE_RULE: Final = (
    "LANE=REPORTS/PERCENT/SECONDS or LANE=off with commas between, like otp=50/90/900,bulk=off, of "
    "1 to 100000 reports, 1 to 100 percent and 60 to 86400 seconds, each of the lanes otp, notice "
    "and bulk at most once; empty turns it off"
)


class PhoneLimit(NamedTuple):
    """At most N otp messages to one number in a number of seconds."""

    messages: int
    seconds: int


class Breaker(NamedTuple):
    """An outage: N failed attempts in a number of seconds, and a share of the last attempts."""

    calls: int
    percent: int
    seconds: int


class TemplatePause(NamedTuple):
    """N reports that a template is at fault, and a share of its reports, in a number of seconds."""

    reports: int
    percent: int
    seconds: int


TemplatePauses = tuple[tuple[Lane, TemplatePause], ...]
"""By lane; one that is not named never pauses a template."""

# Filing is per carrier and province: one that has not filed a template refuses its share of the
# reports for ever, and must not keep login codes from the customers of the others.
_PAUSE_BY_DEFAULT: Final = {
    Lane.OTP: TemplatePause(50, 90, 900),
    Lane.NOTICE: TemplatePause(5, 20, 900),
    Lane.BULK: TemplatePause(5, 20, 900),
}


class Hours(NamedTuple):
    """Minutes of the day in Asia/Shanghai, from start to end, over midnight where end is less."""

    start: int
    end: int

    def include(self, at: datetime) -> bool:
        """Return whether a time is within them, as guards.lua decides."""
        there = at.astimezone(_SHANGHAI)
        minute = there.hour * 60 + there.minute
        return (minute - self.start) % DAY_MIN < (self.end - self.start) % DAY_MIN

    def opening(self, at: datetime) -> datetime:
        """Return when they begin next, from a time outside of them."""
        there = at.astimezone(_SHANGHAI).replace(second=0, microsecond=0)
        minutes = (self.start - there.hour * 60 - there.minute) % DAY_MIN
        return (there + timedelta(minutes=minutes)).astimezone(at.tzinfo)


def phone_limits(text: str) -> tuple[PhoneLimit, ...]:
    """Read MESSAGES/SECONDS, any number of them, with commas between."""
    parts = [part.strip() for part in text.split(",")]
    return tuple(PhoneLimit(*_numbers(one, _PHONE_LIMIT, _PHONE_LIMIT_RULE)) for one in parts)


def breaker(text: str) -> Breaker:
    """Read CALLS/PERCENT/SECONDS."""
    return Breaker(*_numbers(text, _BREAKER, _BREAKER_RULE))


def template_pauses(text: str) -> TemplatePauses:
    """Read LANE=REPORTS/PERCENT/SECONDS or LANE=off, with commas; others keep their default."""
    found: dict[Lane, TemplatePause | None] = {}
    for part in filter(str.strip, text.split(",")):
        name, _, words = part.strip().partition("=")
        if name not in set(Lane) or name in found:
            raise ValueError(_TEMPLATE_PAUSE_RULE)
        pause = None
        if words != "off":
            pause = TemplatePause(*_numbers(words, _TEMPLATE_PAUSE, _TEMPLATE_PAUSE_RULE))
        found[Lane(name)] = pause
    every = _PAUSE_BY_DEFAULT | found
    return tuple((lane, one) for lane, one in every.items() if one)


def hours(text: str) -> Hours:
    """Read HH:MM-HH:MM."""
    found = re.fullmatch(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", text)
    if found:
        start, end = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
        if start < DAY_MIN and end <= DAY_MIN and start != end % DAY_MIN:
            return Hours(start, end % DAY_MIN)
    raise ValueError("HH:MM-HH:MM, like 08:00-21:00, in Asia/Shanghai, of two different times")


def _numbers(text: str, bounds: Sequence[tuple[int, int]], rule: str) -> list[int]:
    """Read whole numbers with / between, each within its bounds. Raises ValueError with a rule."""
    if re.fullmatch(r"[0-9]{1,9}(?:/[0-9]{1,9})*", text):
        found = [*map(int, text.split("/"))]
        fit = [low <= n <= high for n, (low, high) in zip(found, bounds, strict=False)]
        if all(fit) and len(found) == len(bounds):
            return found
    raise ValueError(rule)
