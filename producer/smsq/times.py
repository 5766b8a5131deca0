"""The times that a caller gives: how long sending is useful, and before when nothing is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from smsq import checks
from smsq.errors import InvalidMessage

MAX_TTL_S: Final = 366 * 86_400
MAX_AHEAD_S: Final = 366 * 86_400


def parse_ttl(value: object) -> float:
    """Return seconds in which sending is still useful. Raises InvalidMessage."""
    rule = f"ttl_s must be a number of seconds, more than 0 and at most {MAX_TTL_S}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidMessage(f"{rule}; got {checks.kind_of(value)}")
    if not 0 < value <= MAX_TTL_S:
        raise InvalidMessage(f"{rule}; got {checks.rounded(value)}")
    return float(value)


def parse_send_at(value: object) -> float:
    """Return Unix seconds before which nothing is sent. Raises InvalidMessage."""
    rule = (
        "send_at must be an aware datetime, an ISO 8601 text with an offset or Unix seconds, "
        "at most 366 days ahead"
    )
    match value:
        case bool():
            raise InvalidMessage(f"{rule}; got a bool")
        case int() | float():
            moment = value
        case datetime() | str():
            moment = _unix_seconds(value, rule)
        case _:
            raise InvalidMessage(f"{rule}; got {checks.kind_of(value)}")
    if not 0 <= moment <= datetime.now(UTC).timestamp() + MAX_AHEAD_S:
        shown = checks.rounded(value) if isinstance(value, int | float) else repr(str(value)[:40])
        raise InvalidMessage(f"{rule}; got {shown}")
    return float(moment)


def _unix_seconds(value: datetime | str, rule: str) -> float:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.utcoffset() is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        raise InvalidMessage(f"{rule}; got {checks.kind_of(value)} that is no such time") from None
    raise InvalidMessage(f"{rule}; got {moment.isoformat()}, which has no time zone")
