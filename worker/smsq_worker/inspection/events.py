"""What the story of a message is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from smsq_worker.config.settings import Settings
from smsq_worker.domain.codes import Catalogues
from smsq_worker.domain.scopes import name_of
from smsq_worker.inspection.snapshot import Inspector, Snapshot
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


@dataclass(frozen=True)
class Story:
    """A message, and what its past and its future are described with."""

    trace: Trace
    catalogues: Catalogues
    settings: Settings
    inspector: Inspector

    @cached_property
    def snapshot(self) -> Snapshot:
        """Return a snapshot, taken only for a message whose future needs it."""
        return self.inspector.take_snapshot()

    @cached_property
    def pauses(self) -> list[Pause]:
        """Return the pauses in force now."""
        return self.inspector.control.pauses()

    def account(self, key: str | None) -> str:
        """Return the name of an account; "" of the only one."""
        return name_of(key or "", self.inspector.accounts)
