"""What became of the messages of a day, as ledger/lua/shared/days.lua counts them.

A day is Asia/Shanghai's, and its messages are those that were entered on it: what is reported of
one tomorrow is counted with today's. Test messages, duplicates and what older workers do are not
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.histograms import BOUNDS_MS
from smsq_worker.ledger.reading import asked

DAYS_KEPT: Final = 40
GROUPS: Final = ("template", "lane", "stat")
"""What a day can be split by. What has no code yet has an empty one."""
SHANGHAI: Final = timezone(timedelta(hours=8), "Asia/Shanghai")
_FIRST: Final = date(1970, 1, 1)
_DELIVERED, _FAILED, _REPORTED = "delivered:", "failed:", "failed:report:"


@dataclass(slots=True)
class Sums:
    """What became of some messages."""

    sent: int = 0
    """Accepted by the gateway, whatever became of them."""
    failed: int = 0
    expired: int = 0
    unreported: int = 0
    cancelled: int = 0
    in_doubt: int = 0
    """May have been sent in an attempt of which nothing is known; they are in other counts too."""
    failed_after_acceptance: int = 0
    """Those of `failed` that a report failed."""
    buckets: Counter[float] = field(default_factory=Counter)
    """Delivered, by the upper bound in ms of the time that it took."""

    @property
    def delivered(self) -> int:
        """Return how many were delivered."""
        return self.buckets.total()

    @property
    def delivery_rate(self) -> float | None:
        """Return the share that was delivered, of those that were sent and have come to an end."""
        known = self.delivered + self.unreported + self.failed_after_acceptance
        return self.delivered / known if known else None

    @property
    def median_s(self) -> float | None:
        """Return the median time from acceptance to delivery, interpolated within its bucket.

        Beyond the last bound it is that bound.
        """
        rank, before, below = self.delivered / 2, 0, 0.0
        for bound in (*BOUNDS_MS["delivery"], float("inf")):
            n = self.buckets[bound]
            if n and before + n >= rank:
                upper = below if bound == float("inf") else bound
                return (below + (upper - below) * (rank - before) / n) / 1000
            before, below = before + n, bound
        return None

    def add(self, what: str, n: int) -> None:
        """Add a field of a day."""
        if what.startswith(_DELIVERED):
            self.buckets[float(what.removeprefix(_DELIVERED))] += n
        elif what.startswith(_FAILED):
            self.failed += n
            self.failed_after_acceptance += n if what.startswith(_REPORTED) else 0
        elif what == "doubt":
            self.in_doubt += n
        elif what in {"sent", "expired", "unreported", "cancelled"}:
            setattr(self, what, getattr(self, what) + n)

    def as_dict(self) -> dict[str, Any]:
        """Return them as JSON shows them."""
        names = ("sent", "delivered", "failed", "in_doubt", "unreported", "expired", "cancelled")
        rate, median = self.delivery_rate, self.median_s
        return {name: getattr(self, name) for name in names} | {
            "delivery_rate": None if rate is None else round(rate, 4),
            "median_delivery_s": None if median is None else round(median, 1),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The sums of some days."""

    groups: Mapping[tuple[str, ...], Sums]
    """By the day, and what was asked for."""
    total: Sums
    since: datetime | None
    """When the first of them was first counted; None where none was."""


def today(client: Client, url: str) -> date:
    """Return the day that it is by the ledger's clock. Raises LedgerUnavailable."""
    return timestamps.at(asked(url, timestamps.now_ms, client)).astimezone(SHANGHAI).date()


def read_days(client: Client, url: str, days: Iterable[date], by: Sequence[str]) -> Report:
    """Return what is counted of days, split by some of GROUPS. Raises LedgerUnavailable."""
    groups: dict[tuple[str, ...], Sums] = {}
    total, since = Sums(), list[float]()
    for day in days:
        stored: Any = asked(url, client.hgetall, keys.day((day - _FIRST).days))
        since += [float(stored["since"])] if "since" in stored else []
        for name, text in stored.items():
            lane, what, template = (*name.split("\t", 2), "", "")[:3]
            n = max(0, int(text))  # The end of one that was not counted was taken back.
            if what and template and n:
                values = {"lane": lane, "template": template, "stat": _stat(what)}
                group = (day.isoformat(), *(values[one] for one in by))
                groups.setdefault(group, Sums()).add(what, n)
                total.add(what, n)
    return Report(groups, total, timestamps.at(min(since)) if since else None)


def _stat(what: str) -> str:
    """Return the code that ended a message; of one without, its reason."""
    if what.startswith(_DELIVERED):
        return "DELIVRD"
    return what.removeprefix(_REPORTED).removeprefix(_FAILED) if what.startswith(_FAILED) else ""
