"""States, outcomes, and the one table of transitions between states.

The ledger's scripts enforce `NEXT`, docs/reference/states.md prints it, a test compares the three.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from smsq.contract import State


class Outcome(StrEnum):
    """The result of an attempt. There is no fifth."""

    ACCEPTED = "accepted"
    """The gateway took the message."""
    REFUSED = "refused"
    """The gateway refused it, and would refuse it again."""
    NOT_SENT = "not_sent"
    """The request certainly did not arrive, or was certainly not accepted: try again."""
    MAYBE_SENT = "maybe_sent"
    """Nobody can know: the message's policy decides."""


class LeaseExpired(Exception):  # noqa: N818
    """An attempt's lease has ended: another may have begun, so nothing of it may be sent now."""


Lanes = Literal["open", "probe", "closed", "shut"]
"""Whether wake-ups are consumed; `probe`: one, to find out whether a pause is over; `shut`: nor is
anything else, because the ledger's schema is too new for this process."""


NEXT: Final[dict[State, frozenset[State]]] = {
    State(before): frozenset(map(State, after.split()))
    for before, after in {
        # To the last four while a resend waits: by news of the attempt before it.
        "queued": "sending failed expired cancelled accepted deferred delivered held",
        # To `queued`: another account is asked at once.
        "sending": "accepted queued deferred held failed cancelled delivered",
        "deferred": "queued failed expired cancelled accepted delivered held",
        "accepted": "delivered failed deferred held unreported",
        "held": "deferred failed cancelled accepted delivered",
        # Final; only better news changes them.
        "failed": "delivered",
        "unreported": "delivered failed",
        "cancelled": "delivered",
        "delivered": "",
        "expired": "",
        "duplicate": "",
    }.items()
}
