"""Reading many keys of the ledger in one go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from smsq.connection import Client


def each(client: Client, command: str, names: Iterable[str], *more: str) -> list[Any]:
    """Return what a command answers for each of some keys. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.execute_command(command, name, *more)  # type: ignore[no-untyped-call]
        return pipe.execute()
