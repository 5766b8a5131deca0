"""What the story of a message is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from smsq_worker.domain.codes import Catalogue
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
    catalogue: Catalogue
    webhook: bool
    """Whether a webhook is set for callbacks."""
    notify_queue: str
