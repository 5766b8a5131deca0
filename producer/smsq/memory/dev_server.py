"""SMSQ_REDIS_URL=memory://: a dev server's ledger, which sends nothing and says what it would."""

from __future__ import annotations

import logging

from smsq.memory.ledger import MemoryLedger

log = logging.getLogger(__name__)


class DevLedger(MemoryLedger):
    """A memory ledger in which messages are delivered after a moment."""

    def __init__(self, *, show_codes: bool) -> None:
        super().__init__()
        self._show_codes = show_codes
