"""What a Redis server reports about itself, and how fast it answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis

from smsq.connection import Client
from smsq_worker.infra.memory import refusal
from smsq_worker.infra.redis_fitness import is_replica, read_info

ROUNDS: Final = 10
ROUNDS_S: Final = 1.5
"""No more round trips after this time: of a slow server, fewer are enough."""
ASKED: Final = ("appendfsync", "appendonly", "maxmemory", "maxmemory-policy", "save")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a server reported at one moment. What it does not report is missing."""

    info: Mapping[str, Any]
    """INFO; empty if the server forbids it."""
    config: Mapping[str, str]
    """CONFIG GET; empty if the server forbids it, as managed ones do."""
    round_trip_ms: float
    clock_ahead_s: float
    """How far the server's clock is ahead of this machine's."""
    refusal: str = ""
    """The words with which a primary refuses whatever is written; empty if it does not."""

    def setting(self, name: str) -> str:
        """Return a setting from CONFIG or else INFO; empty if neither has it."""
        return str(self.config.get(name, self.info.get(name.replace("-", "_"), "")))

    def number(self, name: str) -> int | None:
        """Return a number of INFO."""
        value = self.info.get(name)
        return int(value) if isinstance(value, int | float) else None


def gather(client: Client) -> Facts:
    """Query a server. Raises redis.RedisError."""
    round_trip_ms, clock_ahead_s = _pace(client)
    config: Any = {}
    with suppress(redis.ResponseError):  # no permission, or a command that was renamed or removed
        config = client.config_get(*ASKED)
    info = read_info(client)
    return Facts(
        info=info,
        config=config,
        round_trip_ms=round_trip_ms,
        clock_ahead_s=clock_ahead_s,
        # A replica's refusal ends the connection, and its role says it already.
        refusal="" if is_replica(info) else refusal(client),
    )


def _pace(client: Client) -> tuple[float, float]:
    """Return the ms of a round trip, and by how many seconds the server's clock is ahead.

    With TIME rather than PING, which a server that cannot write its snapshots refuses.
    """
    took: list[tuple[float, float]] = []
    end = time.monotonic() + ROUNDS_S
    while len(took) < ROUNDS and (not took or time.monotonic() < end):
        began, before = time.monotonic(), time.time()
        seconds, micros = client.time()
        round_trip_s = time.monotonic() - began
        took.append((round_trip_s, seconds + micros / 1e6 - before - round_trip_s / 2))
    # The quickest gives the clocks' difference most exactly.
    return statistics.median(trip for trip, _ in took) * 1000, min(took)[1]
