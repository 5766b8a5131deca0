"""What accounts deliver, as ledger/lua/shared/quality.lua counts it hour by hour.

Counted by the hour in which an attempt began, however late its report comes. The rate that is
compared is the share delivered within 15 minutes, of an hour that has been over for as long: so
each message has had the same time, and none counts as undelivered because it is young.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.domain.shares import Sample
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.reading import asked

IN_TIME_S: Final = 900
_HOUR_MS: Final = 3_600_000


@dataclass(slots=True)
class Delivery:
    """What became of messages that an account accepted."""

    accepted: int = 0
    failed: int = 0
    """By their first report; some may have been delivered later."""
    buckets: Counter[float] = field(default_factory=Counter)
    """Delivered, by the bound in s of the time since the attempt: 10, 60, 900, inf."""
    ms: int = 0
    """How long all of those took together."""

    @property
    def delivered(self) -> int:
        """Return how many were delivered."""
        return self.buckets.total()

    @property
    def in_time(self) -> int:
        """Return how many of them were within 15 minutes."""
        return sum(n for bound, n in self.buckets.items() if bound <= IN_TIME_S)

    @property
    def rate(self) -> float | None:
        """Return the share delivered within 15 minutes; None where none was accepted."""
        return min(1.0, self.in_time / self.accepted) if self.accepted else None

    @property
    def mean_s(self) -> float | None:
        """Return how long a delivery took on average; None where there was none."""
        return self.ms / self.delivered / 1000 if self.delivered else None

    def add(self, what: str, n: int) -> None:
        """Add a field of an hour."""
        if what.startswith("delivered:"):
            self.buckets[float(what.removeprefix("delivered:"))] += n
        elif what in {"accepted", "failed", "ms"}:
            setattr(self, what, getattr(self, what) + n)

    def __add__(self, other: Delivery) -> Delivery:
        return Delivery(
            self.accepted + other.accepted,
            self.failed + other.failed,
            self.buckets + other.buckets,
            self.ms + other.ms,
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """Which messages of an account."""

    account: str
    """Its key."""
    lane: str
    template: str
    is_first: bool
    """Whether the attempts were the first of their messages."""


def last_hour(client: Client, url: str) -> int:
    """Return the last hour that has been over for 15 minutes, counted from 1970.

    By the ledger's clock. Raises LedgerUnavailable.
    """
    return (asked(url, timestamps.now_ms, client) - IN_TIME_S * 1000) // _HOUR_MS - 1


def begins(hour: int) -> datetime:
    """Return when an hour began."""
    return timestamps.at(hour * _HOUR_MS)


def read(client: Client, url: str, hour: int) -> dict[Kind, Delivery]:
    """Return what is counted of an hour, which is kept for 48. Raises LedgerUnavailable."""
    stored: Any = asked(url, client.hgetall, keys.quality(hour))
    found: defaultdict[Kind, Delivery] = defaultdict(Delivery)
    for name, text in stored.items():
        lane, what, account, template = name.split("\t", 3)
        kind = Kind(account.removeprefix("@"), lane.rstrip("+"), template, not lane.endswith("+"))
        found[kind].add(what, int(text))
    return dict(found)


def by_account(found: Mapping[Kind, Delivery]) -> dict[str, Delivery]:
    """Return what is counted of an hour by account, by its key, whatever the attempt."""
    sums: defaultdict[str, Delivery] = defaultdict(Delivery)
    for kind, delivery in found.items():
        sums[kind.account] += delivery
    return dict(sums)


def samples(client: Client, url: str, hours: Iterable[int]) -> list[Sample]:
    """Return what can be compared of hours: first attempts. Raises LedgerUnavailable."""
    return [
        Sample(
            hour,
            kind.lane,
            kind.template,
            kind.account,
            one.accepted,
            one.in_time,
            one.delivered + one.failed,
        )
        for hour in hours
        for kind, one in read(client, url, hour).items()
        if kind.is_first and kind.template != "other"
    ]
