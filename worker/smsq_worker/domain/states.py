"""States, outcomes and the ways between states: the one table.

The ledger's scripts enforce `NEXT`, ARCHITECTURE.md prints it, and a test compares the three.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from smsq.contract import State


class Outcome(StrEnum):
    """What a call of the gateway came to. There is no fifth way."""

    ACCEPTED = "accepted"
    """The gateway took the message."""
    REFUSED = "refused"
    """The gateway said no, and would say so again."""
    NOT_SENT = "not_sent"
    """The call certainly did not arrive, or was certainly not taken: try again."""
    MAYBE_SENT = "maybe_sent"
    """Nobody can know: the message's policy decides."""


Lanes = Literal["open", "probe", "closed", "shut"]
"""Whether wake-ups are taken; `probe`: one, to find out whether a pause is over; `shut`: nor is
anything else taken, because the ledger is too new for this process."""


NEXT: Final[dict[State, frozenset[State]]] = {
    State.QUEUED: frozenset(
        {
            State.SENDING,
            State.FAILED,
            State.EXPIRED,
            State.CANCELLED,
            # A resend that waits is overtaken by news of the attempt before it.
            State.ACCEPTED,
            State.DEFERRED,
            State.DELIVERED,
        }
    ),
    State.SENDING: frozenset(
        {State.ACCEPTED, State.DEFERRED, State.HELD, State.FAILED, State.DELIVERED}
    ),
    State.DEFERRED: frozenset(
        {
            State.QUEUED,
            State.FAILED,
            State.EXPIRED,
            State.CANCELLED,
            State.ACCEPTED,
            State.DELIVERED,
        }
    ),
    State.ACCEPTED: frozenset(
        {State.DELIVERED, State.FAILED, State.DEFERRED, State.HELD, State.UNREPORTED}
    ),
    State.HELD: frozenset({State.DEFERRED, State.FAILED, State.ACCEPTED, State.DELIVERED}),
    # Final; only better news moves them on.
    State.FAILED: frozenset({State.DELIVERED}),
    State.UNREPORTED: frozenset({State.DELIVERED, State.FAILED}),
    State.CANCELLED: frozenset({State.DELIVERED}),
    State.DELIVERED: frozenset(),
    State.EXPIRED: frozenset(),
    State.DUPLICATE: frozenset(),
}
