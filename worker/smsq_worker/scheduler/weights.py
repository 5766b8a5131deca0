"""Looks once a minute whether weights of routes are to move."""

from __future__ import annotations

import time
from typing import Final

from smsq_worker.ledger import Ledger

LOOK_S: Final = 60.0


class Weigher:
    """Lets the weights of routes that prefer delivery follow it, as one of all workers."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._look_at = 0.0

    def weigh(self) -> None:
        """Move them if that is due; look no more than once a minute. Raises LedgerUnavailable."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        self._ledger.move_weights()
