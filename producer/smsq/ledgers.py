"""Where a backend's messages go: the ledger in Redis, or one that took its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final

from smsq.app import app
from smsq.parsers import IN_MEMORY
from smsq.redis_ledger import RedisLedger

if TYPE_CHECKING:
    from smsq.memory import MemoryLedger

    Ledger = RedisLedger | MemoryLedger


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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_a_child)
