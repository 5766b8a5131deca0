"""What the story of a message is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from smsq.tracking import Attempt
from smsq_worker.domain.accounts import Account, Route
from smsq_worker.domain.codes import Catalogues
from smsq_worker.domain.scopes import name_of
from smsq_worker.ledger.admin import Pause
from smsq_worker.ledger.message_view import Trace


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, or will."""

    at: datetime | None
    """None if unknown, or if it has no time."""
    kind: str
    text: str
    """One or more lines. Phone numbers in it are masked."""


@dataclass(frozen=True, slots=True)
class Past:
    """A message, and what its past is described with."""

    trace: Trace
    catalogues: Catalogues
    webhook: bool
    """Whether a webhook is set for callbacks."""
    notify_queue: str
    accounts: Sequence[Account] = ()
    """() where there is only one."""
    routes: Sequence[Route] = ()
    pauses: Sequence[Pause] = ()
    """Those in force now; read only where there are several accounts."""

    def account_of(self, attempt: Attempt) -> str:
        """Return the name of the account that made an attempt; "" of the only one."""
        return name_of(attempt.account or "", self.accounts)
