"""The only way in which the sandbox waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def interrupted(interrupt: asyncio.Event, seconds: float | None) -> bool:
    """Wait for `seconds`, or without end if None; return whether `interrupt` was set meanwhile.

    Every wait can be interrupted, so stopping cancels no task.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await interrupt.wait()
    return interrupt.is_set()
