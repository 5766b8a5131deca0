"""Suppressed numbers: to which nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from smsq import keys
from smsq.cipher import PlaintextCipher, Unreadable
from smsq.connection import Client, mapped_errors
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.timestamps import at, ms, now_ms

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A number to which nothing is sent. `phone` is "" where only its digest can be read."""

    phone: str = field(repr=False)
    reason: str
    since: datetime
    until: datetime


class SuppressionActs(Acts):
    """Numbers to which nothing is sent. Methods raise LedgerUnavailable where Redis fails."""

    def suppress(self, phone: str, reason: str, until: datetime) -> None:
        """Send nothing to a number until then. `phone` is 11 digits; `until` is aware."""
        entry = {"reason": reason, "since": self._now(), "until": ms(until)}
        self._keep(keys.SUPPRESSED, *_suppression(self._cipher(), phone, entry))

    def take_over(self, rows: Iterable[Suppressed]) -> int:
        """Suppress numbers as another list says, replacing what is known; return how many."""
        count, cipher = 0, self._cipher()
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=False) as pipe:
            for row in rows:
                entry = {"reason": row.reason, "since": ms(row.since), "until": ms(row.until)}
                pipe.hset(keys.SUPPRESSED, *_suppression(cipher, row.phone, entry))
                count += 1
                if count % 1000 == 0:
                    pipe.execute()
            pipe.execute()
        return count

    def unsuppress(self, phone: str) -> bool:
        """Send to a number again; False where it was not suppressed."""
        # Also as a process without keys suppressed it, or the next worker would bring it back.
        names = {self._cipher().phone_hash(phone), keys.phone_hash(phone)}
        with mapped_errors(self._rules.url):
            return bool(self._client.hdel(keys.SUPPRESSED, *names))

    def suppressed(self) -> Iterator[Suppressed]:
        """Yield the suppressed numbers, in no order; one may come twice while they change."""
        now = self._now()
        cipher = self._cipher()
        with mapped_errors(self._rules.url):
            for _, text in self._client.hscan_iter(keys.SUPPRESSED, count=1000):
                entry = json.loads(text)
                if entry["until"] > now:
                    phone = _shown(cipher, entry["phone"])
                    yield Suppressed(phone, entry["reason"], at(entry["since"]), at(entry["until"]))

    def _now(self) -> int:
        with mapped_errors(self._rules.url):
            return now_ms(self._client)


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


def _suppression(cipher: PlaintextCipher, phone: str, entry: dict[str, Any]) -> tuple[str, str]:
    return cipher.phone_hash(phone), json.dumps({"phone": cipher.hide(phone)} | entry)


def _shown(cipher: PlaintextCipher, phone: str) -> str:
    try:
        return cipher.show(phone)
    except Unreadable:
        return ""
