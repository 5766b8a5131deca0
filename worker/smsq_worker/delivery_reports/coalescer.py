"""Doing in one go what many ask for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


class WriteCoalescer(Generic[T]):
    """Gives an act, in a thread, all that has come while it ran last.

    No timer waits for more: what comes alone goes at once.
    """

    def __init__(
        self, act: Callable[[Sequence[T]], None], *, within_s: float | None = None
    ) -> None:
        self._act = act
        self._within_s = within_s
        self._waiting: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def do(self, things: Sequence[T]) -> None:
        """Have things done. Raises what the act raises, for all that it was given at once.

        Raises TimeoutError where that takes too long: then they may have been done, or will be.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((things, done))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._within_s):
                await done
        finally:
            # An act that hangs must not pile up what nobody waits for any more.
            self._waiting = [one for one in self._waiting if one[1] is not done]

    async def _run(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._act, [*chain.from_iterable(one for one, _ in asked)])
            except Exception as raised:  # noqa: BLE001 - it is raised to those who asked
                error = raised
            for _, done in asked:
                if done.cancelled():
                    continue
                if error:
                    done.set_exception(error)
                else:
                    done.set_result(None)
