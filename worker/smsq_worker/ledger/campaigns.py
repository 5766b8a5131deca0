"""Campaigns: what an operator reads and decides of many messages at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from smsq import keys
from smsq.campaigns import CANCELLED, PAUSED, WAITING
from smsq.connection import Client, mapped_errors
from smsq.contract import FINAL, Lane, State
from smsq.errors import LedgerUnavailable
from smsq_worker.ledger.acts import Acts
from smsq_worker.ledger.reading import each, if_allowed
from smsq_worker.ledger.timestamps import at

Deed = Literal["pause", "resume", "cancel", "rate"]
Before = Literal["", "paused", "cancelled", "unknown"]
"""What a campaign was before a deed: cancelled stays so."""

STANDINGS: Final = ("open", "slowed", PAUSED, CANCELLED)
"""What keeps a campaign from going on as others do; open: nothing does."""

SEVERAL: Final = "*"
FINISHED: Final = "finished"
"""The state in which a campaign's one callback goes out."""
_PAGE: Final = 200
_WAITING_AT_MOST: Final = 1000
_REASON: Final = "reason:"
_LANES: Final = frozenset(Lane)


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as its record has it."""

    name: str
    by: str
    """Who sent its first message: a relay's caller, or user@host."""
    since: datetime
    lane: str
    """"*" where its messages have several; so `template`."""
    template: str
    stop: str
    """"", paused or cancelled."""
    stopped_at: datetime | None
    rate: float | None
    """Its own rate in attempts a second; None where it has none."""
    ended_at: datetime | None
    """Since when none of its messages is live."""
    states: Mapping[str, int]
    """How many messages are in each state. What was cancelled counts so before the sweep."""
    reasons: Mapping[str, int]
    """How many have failed for each reason."""

    @property
    def total(self) -> int:
        """Return how many messages it has."""
        return sum(self.states.values())

    @property
    def ended(self) -> int:
        """Return how many have ended."""
        return sum(self.states.get(state, 0) for state in FINAL)

    @property
    def to_send(self) -> int:
        """Return how many wait to be sent."""
        return self.states.get(State.QUEUED, 0) + self.states.get(State.DEFERRED, 0)

    @property
    def delivery_rate(self) -> float | None:
        """Return the share that was delivered, of those of which that is known."""
        sent = self.states.get(State.DELIVERED, 0)
        failed = sum(n for reason, n in self.reasons.items() if reason.startswith("report:"))
        known = sent + self.states.get(State.UNREPORTED, 0) + failed
        return sent / known if known else None


@dataclass(frozen=True, slots=True)
class Slowed:
    """What waits for the slots of its campaign's own rate."""

    messages: int
    seconds: float
    """How long the slowest such campaign takes at least for what it has queued, and there."""


class Campaigns(Acts):
    """The acts on campaigns. Every method raises LedgerUnavailable where Redis fails."""

    def do(self, deed: Deed, name: str, *, rate: float | None = None, act: str = "") -> Before:
        """Apply what an operator says; return what the campaign was. `act` is from `smsq.audit`.

        Raises LedgerUnavailable also where a failover may undo it: then do it again.
        """
        rate_text, replicas = "" if rate is None else f"{rate:.6g}", self._rules.wait_replicas
        before, is_safe = self._run_plain("campaign", deed, name, rate_text, act, replicas=replicas)
        if not is_safe:
            raise LedgerUnavailable(
                f"the ledger changed the campaign, but {replicas} replicas "
                "(SMSQ_REDIS_WAIT_REPLICAS) did not have that in time: a failover may undo it, so "
                "do it again"
            )
        return before  # type: ignore[no-any-return]

    def read(self, name: str) -> Campaign | None:
        """Read a campaign; None for one that is unknown."""
        record: Any = self._ask(self._client.hgetall, keys.campaign(name))
        return _campaign(name, record) if "at" in record else None

    def all(self) -> list[Campaign]:
        """List the campaigns, the newest first."""
        found: list[tuple[str, Any]] = []
        with mapped_errors(self._rules.url):
            names: Any = self._client.zrange(keys.CAMPAIGNS, 0, -1)
            for start in range(0, len(names), _PAGE):
                page = names[start : start + _PAGE]
                records = each(self._client, "HGETALL", map(keys.campaign, page))
                found += zip(page, records, strict=True)
        known = [_campaign(name, record) for name, record in found if "at" in record]
        return sorted(known, key=lambda one: one.since, reverse=True)

    def waiting(self) -> dict[str, tuple[int, int]]:
        """Count by what stops them the live campaigns, and their messages that are to end or to go.

        Of the first 1,000, which bounds what that costs.
        """
        found = dict.fromkeys(STANDINGS, (0, 0))
        with mapped_errors(self._rules.url):
            for _, record in self._live():
                standing = _standing(record)
                campaigns, messages = found[standing]
                waiting = _count(record, *WAITING)
                found[standing] = campaigns + 1, messages + waiting
        return found

    def slowed(self) -> Slowed:
        """Count what waits for its campaign's own rate, of the same campaigns."""
        with mapped_errors(self._rules.url):
            live = [(name, one) for name, one in self._live() if _standing(one) == "slowed"]
            rooms = each(self._client, "ZCARD", [keys.CAMPAIGN_ROOM + name for name, _ in live])
        seconds = [
            (_count(record, State.QUEUED) + n) / float(record["rate"])
            for (_, record), n in zip(live, rooms, strict=True)
        ]
        return Slowed(sum(rooms), max(seconds, default=0.0))

    def _live(self) -> Iterator[tuple[str, Any]]:
        """Yield the names and records of live campaigns. Raises redis.RedisError."""
        names: Any = if_allowed(
            self._client.zrangebyscore,
            *(keys.CAMPAIGNS, "inf", "inf", 0, _WAITING_AT_MOST),
        )
        records = each(self._client, "HGETALL", map(keys.campaign, names or ()))
        return zip(names or (), records, strict=True)


def _standing(record: Mapping[str, Any]) -> str:
    stop = record.get("stop")
    return stop if stop in {PAUSED, CANCELLED} else "slowed" if "rate" in record else "open"


def _count(record: Mapping[str, Any], *states: str) -> int:
    counts = counts_of(record)
    return sum(counts[f"{lane}:{state}"] for lane in Lane for state in states)


def unswept(client: Client) -> Counter[str]:
    """Return what the counts of the ledger are behind: "<lane>:<state>" -> by how many.

    A message whose campaign was cancelled is cancelled from then on; the sweep ends it later.
    Raises redis.RedisError.
    """
    sweep = if_allowed(client.hgetall, keys.CAMPAIGN_SWEEP) or {}
    names = [name.removeprefix("name:") for name in sweep if name.startswith("name:")]
    behind: Counter[str] = Counter()
    for record in each(client, "HGETALL", map(keys.campaign, names)):
        before, after = counts_of(record), _counts_as_cancelled(record)
        behind.update({one: after[one] - before[one] for one in before | after})
    return behind


def campaign_outcome(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an endpoint is sent at a campaign's end: "campaign.finished"."""
    campaign = _campaign(str(record["id"]), record)
    return {
        # It may end once more, where messages are added later.
        "id": f"{campaign.name}.{record['ended']}",
        "state": FINISHED,
        "campaign": campaign.name,
        **as_dict(campaign),
    }


def as_dict(campaign: Campaign) -> dict[str, Any]:
    """Return a campaign as JSON shows it; times are ISO 8601, in UTC."""
    ended = campaign.ended_at
    return {
        "by": campaign.by,
        "lane": _one(campaign.lane),
        "template": _one(campaign.template),
        "stop": campaign.stop or None,
        "rate_per_s": campaign.rate,
        "messages": campaign.total,
        "counts": dict(campaign.states),
        "reasons": dict(campaign.reasons),
        "delivery_rate": campaign.delivery_rate,
        "started_at": campaign.since.isoformat(),
        "stopped_at": campaign.stopped_at.isoformat() if campaign.stopped_at else None,
        "finished_at": ended.isoformat() if ended else None,
    }


def _one(value: str) -> str | None:
    return None if value == SEVERAL else value


def _campaign(name: str, record: Mapping[str, Any]) -> Campaign:
    counts, reasons = _counts_as_cancelled(record), Counter[str]()
    for field, n in record.items():
        if field.startswith(_REASON) and int(n):
            reasons[field.removeprefix(_REASON)] = int(n)
    if record.get("stop") == CANCELLED:
        before = counts_of(record)
        behind = sum(counts[f"{lane}:failed"] - before[f"{lane}:failed"] for lane in Lane)
        reasons["local:cancelled"] += behind
    states: Counter[str] = Counter()
    for field, n in counts.items():
        states[field.partition(":")[2]] += n
    rate, stopped, ended = (record.get(field) for field in ("rate", "stopped", "ended"))
    return Campaign(
        name=name,
        by=record.get("by", ""),
        since=at(float(record["at"])),
        lane=record.get("lane", ""),
        template=record.get("template", ""),
        stop=record["stop"] if record.get("stop") in {PAUSED, CANCELLED} else "",
        stopped_at=at(float(stopped)) if stopped else None,
        rate=float(rate) if rate else None,
        ended_at=at(float(ended)) if ended else None,
        states={str(one): states[one] for one in State if states[one]},
        reasons={reason: n for reason, n in reasons.most_common() if n},
    )


def counts_of(record: Mapping[str, Any]) -> Counter[str]:
    """Return how many messages a record has by "<lane>:<state>"."""
    counts, ended_otherwise = Counter[str](), Counter[str]()
    for field, n in record.items():
        lane, _, way = field.partition(":")
        before, is_way, after = way.partition(">")
        if lane not in _LANES or not is_way:
            continue
        counts[f"{lane}:{after}"] += int(n)
        if before:
            counts[f"{lane}:{before}"] -= int(n)
            ended_otherwise[lane] += int(n) if before not in FINAL and after in FINAL else 0
    for lane in Lane:
        ended = int(record.get(f"{lane}:goal", 0)) - int(record.get(f"{lane}:left", 0))
        counts[f"{lane}:{State.DELIVERED}"] += ended - ended_otherwise[lane]
        counts[f"{lane}:{State.ACCEPTED}"] -= ended - ended_otherwise[lane]
    return counts


def _counts_as_cancelled(record: Mapping[str, Any]) -> Counter[str]:
    """Return the same; of a cancelled campaign what waits counts as ended."""
    counts = counts_of(record)
    if record.get("stop") != CANCELLED:
        return counts
    for lane in Lane:
        # What is held may have been sent, whatever became of it.
        doubted = int(record.get(f"doubted:{lane}", 0)) + counts[f"{lane}:{State.HELD}"]
        waiting = sum(counts.pop(f"{lane}:{state}", 0) for state in WAITING)
        counts[f"{lane}:{State.CANCELLED}"] += waiting - doubted
        counts[f"{lane}:{State.FAILED}"] += doubted
    return counts
