"""What a Redis server says of itself, and how it answers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from smsq.connection import Client

PINGS: Final = 10
PINGS_S: Final = 1.5
"""No more PINGs after this time: of a slow server a few tell enough."""
ASKED: Final = ("appendfsync", "appendonly", "maxmemory", "maxmemory-policy", "save")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A server as it was seen once. What it does not tell is missing."""

    info: Mapping[str, Any]
    """INFO; empty where the server forbids it."""
    config: Mapping[str, str]
    """CONFIG GET; empty where the server forbids it, as managed ones do."""
    ping_ms: float
    clock_ahead_s: float
    """How far the server's clock is ahead of this machine's."""

    def told(self, name: str) -> str:
        """Give a setting as CONFIG or else INFO tells it; empty where neither does."""
        return str(self.config.get(name, self.info.get(name.replace("-", "_"), "")))

    def number(self, name: str) -> int | None:
        """Give a number of INFO."""
        value = self.info.get(name)
        return int(value) if isinstance(value, int | float) else None


def gather(client: Client) -> Facts:
    """Ask a server. Raises redis.RedisError."""
    ping_ms = _ping_ms(client)
    return Facts(
        info=_unless_forbidden(client.info),
        config=_unless_forbidden(lambda: client.config_get(*ASKED)),
        ping_ms=ping_ms,
        clock_ahead_s=_clock_ahead_s(client),
    )


def _ping_ms(client: Client) -> float:
    client.ping()  # This one also connects.
    took: list[float] = []
    end = time.monotonic() + PINGS_S
    while len(took) < PINGS and (not took or time.monotonic() < end):
        began = time.monotonic()
        client.ping()
        took.append((time.monotonic() - began) * 1000)
    return statistics.median(took)


def _clock_ahead_s(client: Client) -> float:
    before = time.time()
    seconds, micros = client.time()
    after = time.time()
    return float(seconds + micros / 1e6 - (before + after) / 2)


def _unless_forbidden(ask: Any) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = ask()
    except redis.ResponseError:  # no permission, or a command that was renamed or taken away
        return {}
    return found
