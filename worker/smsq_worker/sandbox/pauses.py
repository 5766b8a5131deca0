"""The one way in which the sandbox waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def pause(interrupt: asyncio.Event, seconds: float | None) -> bool:
    """Wait for `seconds`, or without end where None; say whether `interrupt` was set.

    Every wait can be interrupted, so that stopping needs no cancelled task.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await interrupt.wait()
    return interrupt.is_set()
