"""Cancelling messages: what `cancel` answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, cast

from smsq.connection import Client, mapped_errors, perform, running
from smsq.contract import StateName
from smsq.errors import LedgerUnavailable
from smsq.functions import Act
from smsq.settings import ProducerSettings
from smsq.steps import Steps

Answer = Literal["cancelled", "under_way", "too_late"]

AT_ONCE: Final = 100
"""How many messages one act cancels: all clients of Redis wait meanwhile."""
IN_DOUBT: Final = "; the message may or may not be cancelled: ask again"
NOT_CANCELLED: Final = "; nothing was cancelled"


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of a message that was to be cancelled, from the moment of the answer on.

    Whatever the answer, no further attempt to send it begins.
    """

    id: str
    answer: Answer
    """cancelled: it certainly was not sent, and will not be.
    under_way: an attempt is being made, and decides; it is not tried again.
    too_late: it is what its state says; one that was accepted goes on to its delivery report."""
    state: StateName
    reason: str | None
    """Why it ended, as in `Status`; local:cancelled where an attempt before may have been sent."""

    @property
    def words(self) -> str:
        """Return it as a sentence."""
        if self.answer == "cancelled":
            return "cancelled: it certainly was not sent, and will not be"
        if self.answer == "under_way":
            return "under way: the attempt that is being made decides, and is the last"
        if self.state == "accepted":
            return "too late: the gateway has accepted it; it is not sent again"
        if self.reason == "local:cancelled":
            return "too late: an earlier attempt may have been sent; it is not sent again"
        return f"too late: it is {self.state}"


# Made when it is first used: its code takes half a millisecond to put together.
_act: Final = cache(lambda: Act("cancel"))


def cancel(
    client: Client, settings: ProducerSettings, ids: Sequence[str], operator_act: str = ""
) -> list[Cancellation | None]:
    """Cancel messages in one act, AT_ONCE at most; None for each that is unknown.

    `operator_act` goes to the audit stream: see `smsq.audit`. Raises LedgerUnavailable.
    """
    return perform(client, cancelling(settings, ids, operator_act))


def cancelling(
    settings: ProducerSettings, ids: Sequence[str], operator_act: str = ""
) -> Steps[list[Cancellation | None]]:
    """Cancel as `cancel` does, as steps."""
    args = (settings.retention_s * 1000, operator_act, *ids)
    with mapped_errors(settings.redis_url, IN_DOUBT, NOT_CANCELLED):
        found, is_safe = yield from running(_act(), args, settings.wait_replicas)
    if not is_safe:
        raise LedgerUnavailable(
            f"the ledger cancelled the message, but {settings.wait_replicas} replicas "
            "(SMSQ_REDIS_WAIT_REPLICAS) did not have that in time: it may be sent all the same"
        )
    return [_read(one, *answer) for one, answer in zip(ids, found, strict=True)]


def _read(message_id: str, answer: str, state: StateName, reason: str) -> Cancellation | None:
    if answer == "unknown":
        return None
    return Cancellation(message_id, cast("Answer", answer.replace(" ", "_")), state, reason or None)
