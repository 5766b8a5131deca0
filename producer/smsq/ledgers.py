"""Where a backend's messages go: the ledger in Redis, or one that took its place."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from smsq import deadline
from smsq.app import app
from smsq.connection import exchange
from smsq.parsers import IN_MEMORY
from smsq.redis_ledger import RedisLedger
from smsq.steps import Answers, CallSteps, adrive, drive

if TYPE_CHECKING:
    from smsq.memory import MemoryLedger

    Ledger: TypeAlias = RedisLedger | MemoryLedger

Result = TypeVar("Result")

_REDIS: Final = RedisLedger()
_in_memory: Final[list[Ledger]] = []
"""That of SMSQ_REDIS_URL=memory://, once it is used."""
_changing = Lock()
_stack: tuple[Ledger, ...] = ()
"""What took the place of Redis in a test, in all threads and tasks; the last one counts."""


def current() -> Ledger:
    """Return the ledger that calls of this moment use."""
    stack = _stack
    if stack:
        return stack[-1]
    if app.settings.redis_url == IN_MEMORY:
        return _of_this_process()
    return _REDIS


def do(steps: CallSteps[Result]) -> Result:
    """Take the steps of a call; return its result."""
    return drive(steps, _do)


def _do(asked: Any) -> Answers | None:
    if isinstance(asked, list | tuple):
        return exchange(app.client, asked)
    if isinstance(asked, partial):
        asked()
    else:
        time.sleep(asked)
    return None


async def ado(steps: CallSteps[Result]) -> Result:
    """Take the steps of a call as `do` does; the event loop goes on meanwhile."""
    return await adrive(steps, _ado)


async def _ado(asked: Any) -> Any:
    if isinstance(asked, list | tuple):
        return await app.async_client.exchange(asked)
    if isinstance(asked, partial):
        return await _in_thread(asked)
    return await (asyncio.sleep(asked) if isinstance(asked, float) else asked)


async def _in_thread(publish: Callable[[], None]) -> None:
    """Publish in a thread, within the caller's deadline, which its context has.

    The thread goes on where the caller is cancelled, as the messages are in the ledger.
    """
    run = copy_context().run
    with suppress(RuntimeError):  # The loop is ending and takes no more: their timers wake them up.
        publishing = asyncio.get_running_loop().run_in_executor(None, run, publish)
        await asyncio.wait([publishing], timeout=max(0.0, deadline.left_s()))


@contextmanager
def replaced_by(ledger: Ledger) -> Iterator[None]:
    """Make all calls of this process use another ledger while the block runs."""
    global _stack  # noqa: PLW0603 - of the process, as the settings are: a view's thread is any
    with _changing:
        _stack = (*_stack, ledger)
    try:
        yield
    finally:
        with _changing:
            _stack = tuple(one for one in _stack if one is not ledger)


def _of_this_process() -> Ledger:
    if _in_memory:
        return _in_memory[0]
    from smsq.memory.dev_server import DevLedger

    with _changing:
        if not _in_memory:
            settings = app.settings
            dev = DevLedger(show_codes=settings.show_codes, key_ttl_s=settings.key_ttl_s)
            _in_memory.append(dev)
        return _in_memory[0]


def _in_a_child() -> None:
    """Begin anew: what another thread of the parent had locked would stay locked."""
    global _changing  # noqa: PLW0603
    _changing = Lock()
    _in_memory.clear()


os.register_at_fork(after_in_child=_in_a_child)
