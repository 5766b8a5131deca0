"""How async calls reach Redis: as blocking ones do, in a thread, while their event loop goes on."""

from __future__ import annotations

import asyncio
import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cache
from threading import Event
from typing import Final

from smsq import deadline
from smsq.connection import NOT_SENT, Client, exchange
from smsq.deadline import DeadlineExceeded
from smsq.steps import Answers, Commands

AT_ONCE: Final = 32
"""How many exchanges a process makes for async calls; further ones wait, within their deadlines."""
GRACE_S: Final = 0.1
"""How long a thread has to say that its deadline is over: only the lookup of a name takes more."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, "smsq")


os.register_at_fork(after_in_child=_threads.cache_clear)  # They stay in the parent.


async def aexchange(client: Client, commands: Commands) -> Answers:
    """Send commands in one go and return their answers, as `exchange` does.

    If the task is cancelled, what was being written may or may not be in, as after an answer that
    did not come in time: its thread goes on.
    """
    left_s, begun = deadline.left_s(), Event()
    # The context has the deadline.
    job = _threads().submit(copy_context().run, exchange, client, commands, begun.set)
    try:
        async with asyncio.timeout(None if left_s == math.inf else left_s + GRACE_S) as limit:
            return await asyncio.wrap_future(job)
    except TimeoutError:
        if not limit.expired():
            raise
        error = DeadlineExceeded()
        if not begun.is_set():  # And it never begins: whatever it would write comes too late.
            error.add_note(NOT_SENT)
        raise error from None
