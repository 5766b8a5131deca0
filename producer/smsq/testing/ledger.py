"""The memory ledger of an outbox: it keeps what was sent, and fails where a test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

from smsq.contract import Message, mask_phone
from smsq.entries import Entered
from smsq.errors import LedgerUnavailable
from smsq.memory import MemoryLedger, Rules
from smsq.steps import Steps

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

    def _note(self, message_id: str, message: Message, entered: Entered) -> None:
        if not entered.duplicate_of:
            self.sent.append(SentMessage(**asdict(message), id=message_id))

    def _call(self, doubt: str, act: Callable[[], Found]) -> Steps[Found]:
        """Return what an act does; raise LedgerUnavailable instead, before it or after."""
        with self._at_once():
            is_entered = self._failures.popleft() if self._failures else None
        if is_entered is None:
            return super()._call(doubt, act)
        if is_entered and doubt:
            act()
        raise LedgerUnavailable(f"the ledger did not answer: box.unavailable() said so{doubt}")
