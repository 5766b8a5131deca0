"""Counters, and what waits in the ledger for a decision or a report's message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError

from smsq import keys
from smsq.connection import mapped_errors
from smsq_worker.infra import memory
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.backlog import Waiting, count_waiting
from smsq_worker.ledger.campaigns import unswept
from smsq_worker.ledger.reading import each, if_allowed


class Counters(Acts):
    """What is counted and listed."""

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to counters that are newer than release 0.1.0."""
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=True) as pipe:
            for name, more in counts.items():
                pipe.hincrby(keys.DURATIONS, name, more)
            pipe.execute()

    def count_set_aside(self, what: str, count: int) -> None:
        """Count what was set aside outside of the ledger, where Redis takes it."""
        with suppress(RedisError):
            self._client.hincrby(keys.BAD_COUNTS, what, count)

    def set_tasks_aside(self, counts: Mapping[str, int]) -> None:
        """Note and count tasks that were refused, where Redis takes it."""
        with suppress(RedisError), self._client.pipeline(transaction=True) as pipe:
            now = timestamps.now_ms(self._client)
            pipe.zadd(keys.BAD, {f"task:{name}": now for name in counts})
            pipe.hincrby(keys.BAD_COUNTS, "task", sum(counts.values()))
            pipe.execute()

    def counters(self) -> dict[str, int]:
        """Read all counters, those of durations too."""
        with mapped_errors(self._rules.url):
            both = each(self._client, "HGETALL", (keys.COUNTERS, keys.DURATIONS))
            behind = unswept(self._client)
            set_aside = if_allowed(self._client.hgetall, keys.BAD_COUNTS) or {}
        counted = Counter({str(name): int(n) for one in both for name, n in one.items()})
        counted.update({f"set_aside:{what}": int(n) for what, n in set_aside.items()})
        counted.update({f"messages:{name}": more for name, more in behind.items() if more > 0})
        return dict(counted)

    def relay_wait_s(self, caller: str, rate_per_s: float) -> float:
        """Count a request of a relay's caller and return 0, or return the seconds to wait.

        All API processes share a caller's rate.
        """
        wait_us, _ = self._run_plain("client_rate", rate_per_s, keys=[keys.RELAY + caller])
        return int(wait_us) / 1_000_000

    def waiting(self) -> Waiting:
        """Count what is held, parked, or to be reconciled."""
        return self._ask(count_waiting, self._client)

    def held(self, at_most: int | None = None) -> list[tuple[str, datetime]]:
        """List held messages, the longest held first: (id, since when)."""
        return self._oldest(keys.HELD, at_most)

    def parked(self, at_most: int) -> list[tuple[str, datetime]]:
        """List mids whose reports are parked because no message has them: (mid, since when)."""
        return self._oldest(keys.PARKED, at_most)

    def is_full(self) -> bool:
        """Return whether Redis is at its memory limit, where it takes no message and no report."""
        return self._ask(memory.is_full, self._client)

    def refused(self) -> str:
        """Return why Redis refuses a message, memory.FULL at its limit, or ""."""
        return self._ask(memory.refused, self._client)

    def _oldest(self, key: str, at_most: int | None) -> list[tuple[str, datetime]]:
        last = -1 if at_most is None else at_most - 1
        found: Any = self._ask(self._client.zrange, key, 0, last, withscores=True)
        return [(str(name), timestamps.at(since)) for name, since in found]
