"""Where a backend's messages go: the ledger in Redis, or one that took its place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol

from smsq.app import app
from smsq.cancelling import Cancellation
from smsq.contract import Message
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import KeyConflict
from smsq.parsers import IN_MEMORY
from smsq.redis_ledger import RedisLedger
from smsq.tracking import Status

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.rules import Guess, Wanted


class Ledger(Protocol):
    """What `delay`, `send_many`, `status` and `cancel` need of a ledger.

    All raise LedgerUnavailable where it does not answer within SMSQ_ENQUEUE_TIMEOUT_S.
    """

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
        """Write a message; return what became of it. Raises KeyConflict: nothing is written."""

    def enter_many(
        self, messages: Sequence[tuple[str, Message]], *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Write messages in one act; return the result of each.

        With `stop_at_conflict` those after a conflict are not written and have no result.
        """

    def status(self, message_id: str) -> Status | None:
        """Return what is known of a message; None where nothing is."""

    async def aenter(self, message_id: str, message: Message) -> Entered:
        """Enter as `enter` does, without blocking the event loop, as all that follow."""

    async def aenter_many(
        self, messages: Sequence[tuple[str, Message]], *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Enter as `enter_many` does."""

    async def astatus(self, message_id: str) -> Status | None:
        """Return what `status` does."""

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message as far as that is possible; None where nothing is known of it."""

    async def acancel(self, message_id: str) -> Cancellation | None:
        """Cancel as `cancel` does."""

    def start_verification(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""

    def check_verification(self, guess: Guess) -> bool:
        """Return whether a code is its challenge's, and use it up."""

    async def astart_verification(self, wanted: Wanted) -> Challenge:
        """Start as `start_verification` does."""

    async def acheck_verification(self, guess: Guess) -> bool:
        """Check as `check_verification` does."""


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
