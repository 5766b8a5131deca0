"""Where a backend's messages go: the ledger in Redis, or one that took its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from smsq.contract import Message
from smsq.errors import KeyConflict
from smsq.ledger_writer import NO_ORIGIN, Entered, Origin
from smsq.redis_ledger import RedisLedger
from smsq.tracking import Status

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.rules import Guess, Wanted


class Ledger(Protocol):
    """What `delay`, `send_many` and `status` need of a ledger.

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

    async def aenter(
        self, message_id: str, message: Message, origin: Origin = NO_ORIGIN
    ) -> Entered:
        """Do what `enter` does; the event loop goes on meanwhile, as with all that follow."""

    async def aenter_many(
        self, messages: Sequence[tuple[str, Message]], *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Do what `enter_many` does."""

    async def astatus(self, message_id: str) -> Status | None:
        """Do what `status` does."""

    def start_verification(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""

    def check_verification(self, guess: Guess) -> bool:
        """Return whether a code is its challenge's, and use it up."""

    async def astart_verification(self, wanted: Wanted) -> Challenge:
        """Do what `start_verification` does."""

    async def acheck_verification(self, guess: Guess) -> bool:
        """Do what `check_verification` does."""


_REDIS: Final = RedisLedger()


def current() -> Ledger:
    """Return the ledger that calls of this moment use."""
    return _REDIS
