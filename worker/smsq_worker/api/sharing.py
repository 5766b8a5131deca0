"""Answers that many ask for at a time are made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException

T = TypeVar("T")


class Shared(Generic[T]):
    """Runs an act once at a time; all who come while it runs share the next run.

    So anyone who asks gets what was so after the asking, and a crowd costs no more than two.
    """

    def __init__(self, act: Callable[[], Awaitable[T]], within_s: float) -> None:
        self._act = act
        self._within_s = within_s
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def result(self) -> T:
        """Return what the act returns, and raise what it raises; 503 where that takes too long."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._running))
            # Or asyncio would log what it raises when nobody waits any more.
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(self._within_s):
                return await asyncio.shield(self._next)
        except TimeoutError:
            raise HTTPException(503, "Redis does not answer") from None

    async def _run(self, before: asyncio.Task[T] | None) -> T:
        if before:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        return await self._act()
