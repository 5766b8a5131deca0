"""Whether a Redis has room: at its memory limit it refuses what is new."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from smsq.connection import Client

log = logging.getLogger(__name__)

NEARLY: Final = 0.9
"""Such a share of its maxmemory is nearly all of it."""
CALM_S: Final = 10.0
"""Room that has lasted for so long is told: at the limit it comes and goes with each message."""

# Redis judges a script by its flags before it runs: one without allow-oom is refused at the limit.
# So this is exact, writes nothing, and needs no right to INFO.
_PROBE: Final = "#!lua\nreturn 1"


class Memory(NamedTuple):
    """The memory of a Redis, in bytes."""

    used: int
    limit: int
    """Its maxmemory; 0 for none."""
    is_full: bool
    """Whether it refuses what is new."""

    @property
    def is_short(self) -> bool:
        """Return whether it is full, or nearly."""
        return self.is_full or (bool(self.limit) and self.used > NEARLY * self.limit)


def is_full(client: Client) -> bool:
    """Return whether a Redis is at its memory limit. Raises redis.RedisError where it is away."""
    try:
        client.register_script(_PROBE)()
    except OutOfMemoryError:
        return True
    except ResponseError:  # It refuses for another reason, which whoever writes is told.
        pass
    return False


def memory(client: Client) -> Memory | None:
    """Return the memory of a Redis; None where INFO is forbidden. Raises redis.RedisError."""
    full = is_full(client)
    try:
        info: Any = client.info("memory")
        return Memory(int(info["used_memory"]), int(info["maxmemory"]), full)
    except (ResponseError, KeyError):  # an ACL forbids it
        return Memory(0, 0, full) if full else None


class MemoryWatch:
    """Logs when there is no room, and when there is again. Not for several threads."""

    def __init__(self) -> None:
        self._last_full = -math.inf
        self._told = False

    def note(self, full: Sequence[str]) -> None:
        """Note which Redis are full now: none, the ledger, the broker, or both."""
        now = time.monotonic()
        if full:
            self._last_full = now
        if full and not self._told:
            self._told = True
            log.critical(
                "the Redis of %s is full, at its maxmemory: it takes nothing new, and workers wait",
                " and ".join(full),
            )
        elif self._told and now >= self._last_full + CALM_S:
            self._told = False
            log.warning("Redis has room again")
