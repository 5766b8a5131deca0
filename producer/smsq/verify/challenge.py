"""What `start` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from smsq import ledgers
from smsq.contract import State
from smsq.outcomes import at
from smsq.tracking import Status


@dataclass(frozen=True, slots=True)
class Challenge:
    """A code that was sent, or is to be. All times are aware, in UTC."""

    id: str = field(repr=False)
    """For `check`. Keep it in the session: whoever has it may use up its tries."""
    message_id: str
    """Of the SMS, for `smsq.status`; "" where none is sent: too much was guessed at this number."""
    expires_at: datetime
    """Until when the code is good."""
    resend_after: datetime
    """From when another start sends a new code."""
    is_new: bool
    """Whether this start sends it; False: it is the challenge of the one before."""
    spent: bool
    """Whether no code passes it any more: it was used, or the tries are used up."""

    @classmethod
    def of(
        cls, challenge_id: str, message_id: str, ends_ms: int, again_ms: int, *flags: bool
    ) -> Self:
        """Return a challenge from Unix milliseconds."""
        ends, again = map(at, (ends_ms, again_ms))
        return cls(challenge_id, message_id, ends, again, *flags)

    @property
    def state(self) -> str:
        """The state of its SMS now, as of any message; "failed", too, where none was sent.

        Raises LedgerUnavailable. It asks Redis: in a coroutine use `astate`.
        """
        if not self.message_id:
            return State.FAILED.value
        return self._state_by(ledgers.do(ledgers.current().reading(self.message_id)))

    async def astate(self) -> str:
        """Return what `state` does; the event loop goes on meanwhile."""
        if not self.message_id:
            return State.FAILED.value
        return self._state_by(await ledgers.ado(ledgers.current().reading(self.message_id)))

    @staticmethod
    def _state_by(status: Status | None) -> str:
        # The ledger keeps a message longer than any code is good.
        return status.state if status else State.EXPIRED.value
