"""Suppressed numbers: to which nothing is sent."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, Final

from smsq import keys
from smsq.cipher import PlaintextCipher, Unreadable
from smsq.connection import Client, mapped_errors
from smsq.contract import Lane
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.audit import add_act
from smsq_worker.ledger.reading import asked
from smsq_worker.ledger.timestamps import at, ms, now_ms

log = logging.getLogger(__name__)

ALL_LANES: Final = tuple(Lane)
_BATCH: Final = 1000
_NEWS: Final = ("reason", "since", "until")


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A number to which nothing is sent in some lanes. `phone` is "" if only its digest is known.

    One number may have several of these, of different lanes.
    """

    phone: str = field(repr=False)
    reason: str
    since: datetime
    until: datetime
    lanes: tuple[Lane, ...] = ALL_LANES


def laid_over(rows: Sequence[Suppressed], new: Suppressed) -> tuple[Suppressed, ...]:
    """Return what is said of a number, where the new row replaces the others in its lanes."""
    if not rows or new.lanes == ALL_LANES:
        return (new,)
    left = (
        replace(row, lanes=tuple(lane for lane in row.lanes if lane not in new.lanes))
        for row in rows
    )
    return (*(row for row in left if row.lanes), new)


class SuppressionActs(Acts):
    """Numbers to which nothing is sent. Methods raise LedgerUnavailable where Redis fails."""

    def suppress(
        self, phone: str, reason: str, until: datetime, lanes: Sequence[Lane] = (), act: str = ""
    ) -> None:
        """Send nothing to a number until then, in some lanes or in all.

        `phone` is 11 digits; `until` is aware.
        """
        entry = {"reason": reason, "since": self._now(), "until": ms(until)}
        args = (*_suppression(self._cipher(), phone, entry), json.dumps(lanes), act)
        self._run_plain("suppress", *args)

    def take_over(self, rows: Iterable[Suppressed], act: str = "") -> int:
        """Suppress numbers as another list says, replacing what is known; return how many.

        All rows of a number come one after the other.
        """
        count, cipher = 0, self._cipher()
        entries = (
            _suppression(cipher, phone, _entry([*of_phone]))
            for phone, of_phone in groupby(rows, attrgetter("phone"))
        )
        with mapped_errors(self._rules.url), self._client.pipeline(transaction=True) as pipe:
            while batch := dict[Any, Any](islice(entries, _BATCH)):
                pipe.hset(keys.SUPPRESSED, mapping=batch)
                if act:
                    add_act(pipe, act, f"{len(batch)} suppressed")
                pipe.execute()
                count += len(batch)
        return count

    def unsuppress(self, phone: str, lanes: Sequence[Lane] = (), act: str = "") -> bool:
        """Send to a number again, in some lanes or in all; False where it was not suppressed."""
        # Also as a process without keys suppressed it, or the next worker would bring it back.
        names = {self._cipher().phone_hash(phone), keys.phone_hash(phone)}
        count, _ = self._run_plain("unsuppress", json.dumps(lanes), act, *names)
        return bool(count)

    def suppressed(self) -> Iterator[Suppressed]:
        """Yield the suppressed numbers, in no order; one may come twice while they change.

        The rows of a number come one after the other.
        """
        now, cipher = self._now(), self._cipher()
        with mapped_errors(self._rules.url):
            for _, text in self._client.hscan_iter(keys.SUPPRESSED, count=1000):
                try:
                    entry = json.loads(text)
                    phone = _shown(cipher, entry["phone"])
                    rows = [*_rows(phone, entry, now)] if entry["until"] > now else []
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                    log.warning("an entry of %s is malformed, and left out", keys.SUPPRESSED)
                else:
                    yield from rows

    def _now(self) -> int:
        return self._ask(now_ms, self._client)


class SuppressedCounter:
    """Looks numbers up in batches; methods raise LedgerUnavailable."""

    def __init__(self, client: Client, url: str, cipher: PlaintextCipher) -> None:
        self._client = client
        self._url = url
        self._cipher = cipher
        self._phones: list[tuple[str, Lane]] = []
        self._count = 0

    def add(self, phone: str, lane: Lane) -> None:
        """Add a message's number and lane; they are looked up with the next batch."""
        self._phones.append((phone, lane))
        if len(self._phones) == _BATCH:
            self._look_up()

    def count(self) -> int:
        """Return how many of those added so far would be suppressed now."""
        self._look_up()
        return self._count

    def _look_up(self) -> None:
        if not self._phones:
            return
        hashes = [self._cipher.phone_hash(phone) for phone, _ in self._phones]
        found: Any = asked(self._url, self._client.hmget, keys.SUPPRESSED, hashes)
        now = asked(self._url, now_ms, self._client)
        for text, (_, lane) in zip(found, self._phones, strict=True):
            self._count += bool(text and _is_suppressed(text, lane, now))
        self._phones.clear()


def _is_suppressed(text: str, lane: Lane, now: int) -> bool:
    try:
        one = _of_lane(json.loads(text), lane)
        return bool(one and one["until"] > now)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # It is malformed: workers set its messages aside until it is corrected.


def _suppression(cipher: PlaintextCipher, phone: str, entry: dict[str, Any]) -> tuple[str, str]:
    return cipher.phone_hash(phone), json.dumps({"phone": cipher.hide(phone)} | entry)


def _entry(rows: Sequence[Suppressed]) -> dict[str, Any]:
    """Return the entry of a number's rows, as suppression.lua describes it."""
    of: dict[Lane, dict[str, Any]] = {
        lane: {"reason": row.reason, "since": ms(row.since), "until": ms(row.until)}
        for row in rows
        for lane in row.lanes
    }
    longest = max(of.values(), key=lambda one: int(one["until"]))
    is_same = len(of) == len(ALL_LANES) and all(one == longest for one in of.values())
    return longest if is_same else longest | {"lanes": of}


def _rows(phone: str, entry: dict[str, Any], now: int) -> Iterator[Suppressed]:
    found: dict[tuple[Any, ...], list[Lane]] = {}
    for lane in ALL_LANES:
        one = _of_lane(entry, lane)
        if one and one["until"] > now:
            found.setdefault(tuple(one[name] for name in _NEWS), []).append(lane)
    for (reason, since, until), lanes in found.items():
        yield Suppressed(phone, reason, at(since), at(until), tuple(lanes))


def _of_lane(entry: dict[str, Any], lane: Lane) -> dict[str, Any] | None:
    return entry["lanes"].get(lane) if "lanes" in entry else entry


def _shown(cipher: PlaintextCipher, phone: str) -> str:
    try:
        return cipher.show(phone)
    except Unreadable:
        return ""
