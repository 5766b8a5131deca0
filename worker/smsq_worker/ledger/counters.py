"""Counters, and what waits in the ledger for a decision or a report's message."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

from smsq import keys
from smsq.connection import mapped_errors
from smsq_worker.infra import memory
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.campaigns import unswept


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
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=False) as pipe:
            for key in (keys.COUNTERS, keys.DURATIONS):
                pipe.hgetall(key)
            counters, durations = pipe.execute()
            for name, more in unswept(self._client).items():
                if more > 0:
                    field = f"messages:{name}"
                    counters[field] = int(counters.get(field, 0)) + more
        counted = counters | durations | self._set_aside()
        return {str(name): int(value) for name, value in counted.items()}

    def _set_aside(self) -> dict[str, Any]:
        with mapped_errors(self._rules.url):
            try:
                found: Any = self._client.hgetall(keys.BAD_COUNTS)
            except NoPermissionError:  # of an ACL that was made for an older release
                return {}
        return {f"set_aside:{what}": count for what, count in found.items()}

    def waiting(self) -> tuple[int, int]:
        """Count the held messages and the mids of parked reports."""
        with mapped_errors(self._rules.url):
            return self._client.zcard(keys.HELD), self._client.zcard(keys.PARKED)

    def held(self, at_most: int) -> list[tuple[str, datetime]]:
        """List held messages, the longest held first: (id, since when)."""
        return self._oldest(keys.HELD, at_most)

    def parked(self, at_most: int) -> list[tuple[str, datetime]]:
        """List mids whose reports are parked because no message has them: (mid, since when)."""
        return self._oldest(keys.PARKED, at_most)

    def is_full(self) -> bool:
        """Return whether Redis is at its memory limit, where it takes no message and no report."""
        with mapped_errors(self._rules.url):
            return memory.is_full(self._client)

    def _oldest(self, key: str, at_most: int) -> list[tuple[str, datetime]]:
        with mapped_errors(self._rules.url):
            found: Any = self._client.zrange(key, 0, at_most - 1, withscores=True)
        return [(str(name), timestamps.at(since)) for name, since in found]
