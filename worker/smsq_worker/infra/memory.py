"""Whether a Redis takes what is written: it may have no room, or refuse everything."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from smsq.connection import Client
from smsq_worker.infra.redis_fitness import read_info

log = logging.getLogger(__name__)

NEARLY: Final = 0.9
"""The share of maxmemory from which a Redis is nearly full."""
CALM_S: Final = 10.0
"""How long there must be room before it is logged: at the limit it comes and goes."""
FULL: Final = "OOM"
_REASONS: Final = ("MISCONF", "NOREPLICAS")
"""Its disk fails; it has fewer replicas than its min-replicas-to-write."""

# Redis refuses any script without flags, before it runs, at the limit and where it refuses what is
# written. So this probe is exact, writes nothing, and needs no permission for INFO.
_PROBE: Final = "#!lua\nreturn 1"


class Memory(NamedTuple):
    """The memory of a Redis, in bytes."""

    used: int
    limit: int
    """Its maxmemory; 0 for none."""
    is_full: bool
    """Whether it refuses new data."""

    @property
    def is_short(self) -> bool:
        """Return whether it is full or nearly full."""
        return self.is_full or (bool(self.limit) and self.used > NEARLY * self.limit)


def is_full(client: Client) -> bool:
    """Return whether a Redis is at its memory limit. Raises redis.RedisError if it is away."""
    return refused(client) == FULL


def refusal(client: Client) -> str:
    """Return the words with which a Redis refuses everything that is written, "" if it does not.

    Not for its memory, at whose limit it takes some. Raises redis.RedisError if it is away.
    """
    words = refused(client)
    return "" if words == FULL else words


def refused(client: Client) -> str:
    """Return why a Redis refuses a message: OOM at its memory limit, else its own words, or "".

    Raises redis.RedisError if it is away.
    """
    try:
        client.register_script(_PROBE)()
    except OutOfMemoryError:
        return FULL
    except ResponseError as error:
        # Any other, as of a user without the right to scripts, says nothing of the server.
        return words if (words := str(error)).startswith(_REASONS) else ""
    return ""


def memory(client: Client) -> Memory | None:
    """Return the memory of a Redis; None if INFO is forbidden. Raises redis.RedisError."""
    full, found = is_full(client), used_and_limit(client)
    return Memory(*found or (0, 0), full) if full or found else None


def used_and_limit(client: Client) -> tuple[int, int] | None:
    """Return the memory of a Redis and its limit in bytes, 0 for none; None if INFO is forbidden.

    Raises redis.RedisError.
    """
    info = read_info(client, "memory")
    return (int(info["used_memory"]), int(info["maxmemory"])) if "maxmemory" in info else None


class MemoryWatch:
    """Logs when there is no room, and when there is again. Not thread-safe."""

    def __init__(self) -> None:
        self._last_full = -math.inf
        self._logged: set[str] = set()

    def note(self, full: Sequence[str]) -> None:
        """Note which Redis are full: none, the ledger, the broker, or both."""
        now = time.monotonic()
        if full:
            self._last_full = now
        if not self._logged.issuperset(full):
            self._logged.update(full)
            log.critical(
                "the Redis of %s is full, at its maxmemory: it takes nothing new, and workers wait",
                " and ".join(full),
            )
        elif self._logged and now >= self._last_full + CALM_S:
            self._logged.clear()
            log.warning("Redis has room again")
