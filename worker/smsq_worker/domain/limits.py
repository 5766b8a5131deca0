"""Limits as an operator writes them in settings; each parser's ValueError says how."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from smsq.contract import Lane

MAX_LIMIT: Final = 1000
MAX_SECONDS: Final = 31 * 86_400
DAY_MIN: Final = 1440
_SHANGHAI: Final = timezone(timedelta(hours=8))  # without summer time
# The ledger keeps the last N attempts for the share of failures, and reads all of them.
_BREAKER: Final = ((1, 500), (10, 100), (1, 3600))
_TEMPLATE_PAUSE: Final = ((1, 100_000), (1, 100), (60, 86_400))


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
        """Return whether a time is within them, as admit.lua decides."""
        there = at.astimezone(_SHANGHAI)
        minute = there.hour * 60 + there.minute
        return (minute - self.start) % DAY_MIN < (self.end - self.start) % DAY_MIN


def phone_limits(text: str) -> tuple[PhoneLimit, ...]:
    """Read MESSAGES/SECONDS, any number of them, with commas between."""
    found = [re.fullmatch(r"\s*([0-9]{1,9})/([0-9]{1,9})\s*", part) for part in text.split(",")]
    limits = [PhoneLimit(int(one[1]), int(one[2])) for one in found if one]
    if len(limits) != len(found) or not all(map(_allowed, limits)):
        raise ValueError(
            "MESSAGES/SECONDS with commas between, like 1/60,5/3600,10/86400, from 1 to "
            f"{MAX_LIMIT} messages and {MAX_SECONDS} seconds; empty turns it off"
        )
    return tuple(limits)


def breaker(text: str) -> Breaker:
    """Read CALLS/PERCENT/SECONDS."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,3})/([0-9]{1,4})", text)
    if found:
        one = Breaker(int(found[1]), int(found[2]), int(found[3]))
        if all(low <= value <= high for value, (low, high) in zip(one, _BREAKER, strict=True)):
            return one
    raise ValueError(
        "CALLS/PERCENT/SECONDS, like 20/50/60, of 1 to 500 calls, 10 to 100 percent and 1 to 3600 "
        "seconds; empty turns it off"
    )


def template_pauses(text: str) -> TemplatePauses:
    """Read LANE=REPORTS/PERCENT/SECONDS or LANE=off, with commas; others keep their default."""
    found: dict[Lane, TemplatePause | None] = {}
    for part in filter(str.strip, text.split(",")):
        name, _, words = part.strip().partition("=")
        if name not in set(Lane) or name in found:
            raise ValueError(_TEMPLATE_PAUSE_RULE)
        found[Lane(name)] = None if words == "off" else _template_pause(words)
    every = _PAUSE_BY_DEFAULT | found
    return tuple((lane, one) for lane, one in every.items() if one)


def _template_pause(text: str) -> TemplatePause:
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,3})/([0-9]{1,5})", text)
    if found:
        one = TemplatePause(int(found[1]), int(found[2]), int(found[3]))
        bounds = zip(one, _TEMPLATE_PAUSE, strict=True)
        if all(low <= value <= high for value, (low, high) in bounds):
            return one
    raise ValueError(_TEMPLATE_PAUSE_RULE)


def hours(text: str) -> Hours:
    """Read HH:MM-HH:MM."""
    found = re.fullmatch(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", text)
    if found:
        start, end = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
        if start < DAY_MIN and end <= DAY_MIN and start != end % DAY_MIN:
            return Hours(start, end % DAY_MIN)
    raise ValueError("HH:MM-HH:MM, like 08:00-21:00, in Asia/Shanghai, of two different times")


def _allowed(one: PhoneLimit) -> bool:
    return 1 <= one.messages <= MAX_LIMIT and 1 <= one.seconds <= MAX_SECONDS
