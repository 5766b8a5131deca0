"""Where a backend's messages go: the ledger in Redis, or one that took its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from smsq.cancelling import Cancellation
from smsq.contract import Message
from smsq.errors import KeyConflict
from smsq.ledger_writer import NO_ORIGIN, Entered, Origin
from smsq.redis_ledger import RedisLedger
from smsq.tracking import Status


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

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message as far as that is possible; None where nothing is known of it."""


_REDIS: Final = RedisLedger()


def current() -> Ledger:
    """Return the ledger that calls of this moment use."""
    return _REDIS
