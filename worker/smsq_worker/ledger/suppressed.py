"""Counting suppressed numbers among many."""

from __future__ import annotations

import json
from typing import Any, Final

from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.connection import Client, mapped_errors
from smsq_worker.ledger.timestamps import now_ms

_BATCH: Final = 1000


class SuppressedCounter:
    """Looks numbers up in batches; methods raise LedgerUnavailable."""

    def __init__(self, client: Client, url: str, cipher: PlaintextCipher) -> None:
        self._client = client
        self._url = url
        self._cipher = cipher
        self._phones: list[str] = []
        self._count = 0

    def add(self, phone: str) -> None:
        """Add a number; it is looked up with the next batch."""
        self._phones.append(phone)
        if len(self._phones) == _BATCH:
            self._look_up()

    def count(self) -> int:
        """Return how many of the numbers added so far are suppressed now."""
        self._look_up()
        return self._count

    def _look_up(self) -> None:
        if not self._phones:
            return
        with mapped_errors(self._url):
            found: list[Any] = self._client.hmget(
                keys.SUPPRESSED, [self._cipher.phone_hash(phone) for phone in self._phones]
            )
            now = now_ms(self._client)
        self._count += sum(1 for text in found if text and json.loads(text)["until"] > now)
        self._phones.clear()
