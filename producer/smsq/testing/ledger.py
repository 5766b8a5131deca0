"""The memory ledger of an outbox: it keeps what was sent, and fails where a test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

from smsq.cancelling import IN_DOUBT as CANCEL_IN_DOUBT
from smsq.cancelling import Cancellation
from smsq.contract import Message, mask_phone
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import KeyConflict, LedgerUnavailable
from smsq.ledger_writer import IN_DOUBT
from smsq.memory import MemoryLedger, Rules
from smsq.tracking import Status
from smsq.verify.challenge import Challenge
from smsq.verify.rules import IN_DOUBT as CHECK_IN_DOUBT
from smsq.verify.rules import Guess, Wanted

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SentMessage(Message):
    """A message that was sent, with all that `delay` was given or chose.

    `phone` is 11 digits, `send_at` Unix seconds. Its repr masks the number, and hides code and key.
    """

    id: str

    def __repr__(self) -> str:
        """Show what tells it from others in the output of a test that failed."""
        shown = f"{self.template!r} to {mask_phone(self.phone)} on lane {self.lane}"
        return f"<SentMessage {self.id}: {shown}>"


class OutboxLedger(MemoryLedger):
    """A memory ledger for one test."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.sent: deque[SentMessage] = deque(maxlen=self.rules.at_most)
        self._failures: deque[bool] = deque()

    def fail(self, calls: int, *, entered: bool) -> None:
        """Make the next calls of the backend raise LedgerUnavailable."""
        with self._at_once():
            self._failures.extend([entered] * calls)

    def status(self, message_id: str) -> Status | None:
        """Return what is known of a message; None where nothing is."""
        self._may_fail()
        return super().status(message_id)

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message; None where nothing is known of it."""
        return self._or_fail(CANCEL_IN_DOUBT, partial(super().cancel, message_id))

    def start_verification(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""
        return self._or_fail(IN_DOUBT, partial(super().start_verification, wanted))

    def check_verification(self, guess: Guess) -> bool:
        """Return whether a code is its challenge's, and use it up."""
        return self._or_fail(CHECK_IN_DOUBT, partial(super().check_verification, guess))

    def look_up(self, message_id: str) -> Status | None:
        """Return what is known of a message, whatever is to fail."""
        return super().status(message_id)

    def _enter(
        self,
        messages: Sequence[tuple[str, Message]],
        origin: Origin,
        *,
        stop_at_conflict: bool = False,
    ) -> list[Entered | KeyConflict]:
        enter = partial(super()._enter, messages, origin, stop_at_conflict=stop_at_conflict)
        with self._at_once():
            return self._or_fail(IN_DOUBT, enter)

    def _enter_code(self, message_id: str, message: Message) -> None:
        super()._enter([(message_id, message)], NO_ORIGIN)

    def _note(self, message_id: str, message: Message, entered: Entered) -> None:
        if not entered.duplicate_of:
            self.sent.append(_as_sent(message_id, message))

    def _or_fail(self, doubt: str, act: Callable[[], Found]) -> Found:
        """Return what an act does; raise LedgerUnavailable instead, before it or after."""
        is_lost = self._may_fail(doubt)
        found = act()
        if is_lost:
            raise _unavailable(doubt)
        return found

    def _may_fail(self, doubt: str = "") -> bool:
        """Raise LedgerUnavailable if that is due; return whether that comes after the entry."""
        with self._at_once():
            if not self._failures:
                return False
            if self._failures.popleft() and doubt:
                return True
        raise _unavailable(doubt)


def _unavailable(doubt: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger did not answer: box.unavailable() said so{doubt}")


def _as_sent(message_id: str, message: Message) -> SentMessage:
    given = {one.name: getattr(message, one.name) for one in fields(message)}
    return SentMessage(**given, id=message_id)
