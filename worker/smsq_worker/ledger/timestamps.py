"""Times as the ledger keeps them: Unix milliseconds of the Redis server's clock."""

from __future__ import annotations

from datetime import datetime

from smsq.connection import Client
from smsq.outcomes import at as at  # noqa: PLC0414 - one of these, too


def ms(moment: datetime) -> int:
    """Return an aware time as the ledger keeps it."""
    return round(moment.timestamp() * 1000)


def now_ms(client: Client) -> int:
    """Return the server's time. Raises redis.RedisError."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000
