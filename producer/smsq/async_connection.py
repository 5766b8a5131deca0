"""How async calls reach Redis: as blocking ones do, in a thread, while their event loop goes on."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import cache, partial
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Final

from smsq import deadline
from smsq.connection import NOT_SENT, Client, exchange
from smsq.deadline import DeadlineExceeded
from smsq.steps import Answers, Commands

AT_ONCE: Final = 32
"""How many exchanges a process makes for async calls; further ones wait, within their deadlines."""
GRACE_S: Final = 0.1
"""How long a thread has to say that its deadline is over: only the lookup of a name takes more."""


class Threads:
    """As many threads as there are jobs under way, AT_ONCE at most; they stay for the next.

    concurrent.futures' cost as much for each job as half of a message's entry.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = Lock()
        self._started = self._under_way = 0

    def do(self, job: Callable[[], object]) -> None:
        """Do a job, which raises nothing, when a thread is free."""
        with self._lock:
            self._under_way += 1
            is_one_more = self._started < min(self._under_way, AT_ONCE)
            self._started += is_one_more
        if is_one_more:
            Thread(target=self._work, name="smsq", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()
            with self._lock:
                self._under_way -= 1


threads: Final = cache(Threads)
os.register_at_fork(after_in_child=threads.cache_clear)  # They stay in the parent.


async def aexchange(client: Client, commands: Commands) -> Answers:
    """Send commands in one go and return their answers, as `exchange` does.

    If the task is cancelled, what was being written may or may not be in, as after an answer that
    did not come in time: its thread goes on.
    """
    left_s, begun = deadline.left_s(), Event()
    found: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
    # The context has the deadline.
    job = partial(copy_context().run, _exchange, client, commands, begun.set, found)
    threads().do(job)
    try:
        async with asyncio.timeout(None if left_s == math.inf else left_s + GRACE_S) as limit:
            return await found
    except TimeoutError:
        if not limit.expired():
            raise
        error = DeadlineExceeded()
        if not begun.is_set():  # And it never begins: whatever it would write comes too late.
            error.add_note(NOT_SENT)
        raise error from None


def _exchange(
    client: Client,
    commands: Commands,
    begins: Callable[[], object],
    found: asyncio.Future[Answers],
) -> None:
    if found.cancelled():
        return
    settle: Callable[[], object]
    try:
        settle = partial(found.set_result, exchange(client, commands, begins))
    except Exception as error:  # noqa: BLE001 - whoever waits raises it
        settle = partial(found.set_exception, error)
    with suppress(RuntimeError):  # The loop has ended.
        found.get_loop().call_soon_threadsafe(lambda: found.done() or settle())
