"""Times as the ledger keeps them: Unix milliseconds of the Redis server's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from smsq.connection import Client

_LAST_MS: Final = 253_402_300_799_000
"""9999-12-31T23:59:59Z, which is written for "for ever". A fraction more has no date."""


def at(ms: float) -> datetime:
    """Return a moment of the ledger as an aware time."""
    return datetime.fromtimestamp(min(ms, _LAST_MS) / 1000, UTC)


def ms(moment: datetime) -> int:
    """Return an aware time as the ledger keeps it."""
    return round(moment.timestamp() * 1000)


def now_ms(client: Client) -> int:
    """Return the server's time. Raises redis.RedisError."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
