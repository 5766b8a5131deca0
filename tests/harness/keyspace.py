"""All that Redis holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis


def everything(client: redis.Redis) -> str:
    """All that the database holds, as text."""
    read: dict[str, Callable[[str], Any]] = {
        "string": client.get,
        "hash": client.hgetall,
        # Ids are no text.
        "list": lambda key: client.execute_command("LRANGE", key, 0, -1, NEVER_DECODE=[]),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
        "none": str,  # gone meanwhile
    }
    return "\n".join(f"{key} {read[str(client.type(key))](key)}" for key in client.scan_iter())
