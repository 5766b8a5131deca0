"""Times as the ledger keeps them: Unix milliseconds of the Redis server's clock."""

from __future__ import annotations

from datetime import UTC, datetime

from smsq.connection import Client


def at(ms: float) -> datetime:
    """Return a moment of the ledger as an aware time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def ms(moment: datetime) -> int:
    """Return an aware time as the ledger keeps it."""
    return round(moment.timestamp() * 1000)


def now_ms(client: Client) -> int:
    """Return the server's time. Raises redis.RedisError."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
