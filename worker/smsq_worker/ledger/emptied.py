"""A ledger that is empty all of a sudden: its Redis was flushed, or started without its data."""

from __future__ import annotations

import logging
import time
from typing import Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger.reading import asked

log = logging.getLogger(__name__)

LOOKS_EACH_S: Final = 10.0


class Watch:
    """Says once that what was in the ledger is gone; for a worker's scheduler.

    A worker writes the schema, soon after its scheduler has begun, and nothing removes it: where it
    goes, all has gone. Nothing fails then: messages come in and are sent, and no other sign says
    that those that waited are lost.
    """

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._looks_at = 0.0
        self._was_there = False

    def look(self) -> None:
        """Check once in a while. Raises LedgerUnavailable."""
        if time.monotonic() < self._looks_at:
            return
        self._looks_at = time.monotonic() + LOOKS_EACH_S
        (version,) = asked(self._url, self._client.hmget, keys.SCHEMA, ["version"])
        if version is None and self._was_there:
            log.critical(
                "what was in the ledger is gone: its Redis was flushed, or started without its "
                "data. What waited in it is not sent. Stop the workers and HTTP APIs, and put the "
                "data back: docs/operate/runbook.md, Redis was started empty"
            )
        self._was_there = version is not None
