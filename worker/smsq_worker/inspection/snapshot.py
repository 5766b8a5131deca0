"""A snapshot of smsq: rate, pauses, what waits, and how long it takes to send it.

The broker may be another Redis than the ledger's. If it does not answer, all else is still known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel

from smsq.app import QUEUES
from smsq.campaigns import PAUSED
from smsq.connection import Client, connect_impatiently, mapped_errors
from smsq.contract import FINAL, REPORT_QUEUE, Lane, State
from smsq_worker.config.rules import Rules
from smsq_worker.domain.accounts import Route
from smsq_worker.infra.memory import Memory, memory, refusal
from smsq_worker.infra.wakeups import ids_of
from smsq_worker.inspection.accounts import AccountView, is_on_a_route, look_at_accounts, together
from smsq_worker.ledger import Ledger, quality, timestamps
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Control, Pause, Rate
from smsq_worker.ledger.callbacks import Callbacks
from smsq_worker.ledger.campaigns import Campaigns
from smsq_worker.ledger.quality import Delivery
from smsq_worker.ledger.states import count_deferred_and_due, first_queued

Seen = TypeVar("Seen")
LIVE_STATES: Final = tuple(state for state in State if state not in FINAL)

_BROKER_S: Final = 1.5
_FIRST, _PAGE = 10, 200
_SEARCH: Final = 10_000
"""Search at most this much of a list: the tail of a queue may be full of copies, or expired."""
_QUICK_SEARCH: Final = 1000
"""The same for metrics, which are read every few seconds."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The message that has waited longest in a lane's queue."""

    id: str
    enqueued_at: datetime
    age_s: float
    waits_s: float
    """Since its wake-up was published: less than its age if it was deferred before."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane's messages in the ledger."""

    live: dict[str, int]
    """How many messages are in each state that is not final."""
    oldest: Oldest | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of smsq at one moment."""

    at: datetime
    rate: Rate
    """Of all accounts together."""
    pauses: tuple[Pause, ...]
    """Of accounts, templates and outages."""
    paused_campaigns: tuple[int, int]
    """How many campaigns are paused, and how many messages of theirs wait."""
    lanes: dict[str, LaneView]
    reports_waiting: int | None
    """Reports in their queue; None if the broker does not answer."""
    inbox: int
    """Reports that wait to be reconciled, in the ledger."""
    held: int
    parked: int
    callbacks: dict[str, int]
    """Callbacks that are waiting, and dead ones, which were abandoned."""
    to_send: int
    """Messages that wait only for the rate limit, that of all or of their campaign."""
    stopped: bool
    """Whether nothing is sent: the account is paused, the breaker open, or Redis refuses."""
    broker_answers: bool
    memory: dict[str, Memory]
    """Of the Redis of `ledger` and `broker`, as far as known."""
    refusals: dict[str, str]
    """The words with which one of these refuses whatever is written."""
    accounts: tuple[AccountView, ...] = ()
    """() where there is only one."""
    slowed_s: float = 0.0
    """How long the slowest campaign with its own rate takes at least."""

    @property
    def drain_s(self) -> float | None:
        """Return the estimated time to send what waits; None while nothing is sent."""
        return None if self.stopped else max(self.to_send / self.rate.now, self.slowed_s)


class Inspector:
    """Reads the ledger and the broker; it connects on first use."""

    def __init__(self, client: Client, rules: Rules, broker_url: str) -> None:
        self._client = client
        self._url, self._broker_url = rules.url, broker_url
        self.accounts, self.routes = rules.accounts, rules.routes
        self._broker = connect_impatiently(broker_url, _BROKER_S)
        self.ledger = Ledger(client, rules)
        self.control = Control(client, rules)
        self.campaigns = Campaigns(client, rules)
        self.callbacks = Callbacks(client, rules)

    def close(self) -> None:
        """Close the broker's connections; the ledger's are the caller's."""
        self._broker.close()

    def take_snapshot(self) -> Snapshot:
        """Return a snapshot. Raises LedgerUnavailable."""
        pauses = self.control.pauses()
        accounts = self.account_views()
        live = self.control.live()
        waiting = self.waiting()
        held, parked, inbox = self.ledger.waiting()
        refusals = self._of_each(refusal)
        with mapped_errors(self._url):
            now_ms = timestamps.now_ms(self._client)
            lanes = {str(lane): self._lane(lane, live, waiting, now_ms) for lane in Lane}
            deferred = total(live, State.DEFERRED)
            due = count_deferred_and_due(self._client, now_ms, _SEARCH) if deferred else 0
        slowed = self.campaigns.slowed()
        return Snapshot(
            at=timestamps.at(now_ms),
            rate=together(accounts) if accounts else self.control.rate(),
            pauses=tuple(pauses),
            paused_campaigns=self.campaigns.waiting()[PAUSED],
            lanes=lanes,
            reports_waiting=waiting[REPORT_QUEUE] if waiting else None,
            inbox=inbox,
            held=held,
            parked=parked,
            callbacks=self.callbacks.counts(),
            to_send=total(live, State.QUEUED) + due + slowed.messages,
            stopped="ledger" in refusals or is_stopped(pauses, accounts, self.routes),
            broker_answers=waiting is not None,
            memory=self._of_each(memory),
            refusals=refusals,
            accounts=tuple(accounts),
            slowed_s=slowed.seconds,
        )

    def _of_each(self, look: Callable[[Client], Seen | None]) -> dict[str, Seen]:
        """Return what there is to see at the Redis of the ledger, and at a broker of its own."""
        with mapped_errors(self._url):
            found = {"ledger": look(self._client)}
        if self._broker_url != self._url:
            with suppress(redis.RedisError):
                found["broker"] = look(self._broker)
        return {name: seen for name, seen in found.items() if seen}

    def account_views(self) -> list[AccountView]:
        """Return how each of several accounts stands; [] of the only one."""
        return look_at_accounts(self.control, self.accounts) if self.accounts else []

    def deliveries(self) -> dict[str, Delivery]:
        """Return by key what each of several accounts delivered in the last hour that counts."""
        if not self.accounts:
            return {}
        hour = quality.last_hour(self._client, self._url)
        return quality.by_account(quality.read(self._client, self._url, hour))

    def waiting(self) -> dict[str, int] | None:
        """Return how much waits in each queue; None if the broker does not answer."""
        try:
            return queue_depths(self._broker)
        except redis.RedisError:
            return None

    def waits_s(self, waiting: dict[str, int]) -> dict[Lane, float]:
        """Return how long each lane's oldest wake-up has waited; `waiting` is from `waiting()`.

        A lane is left out if a quick search finds only wake-ups of messages that have ended.
        Raises LedgerUnavailable.
        """
        found: dict[Lane, float] = {}
        with mapped_errors(self._url):
            now_ms = timestamps.now_ms(self._client)
            for lane in Lane:
                depth = waiting[lane.queue]
                oldest = self._oldest(lane, now_ms, _QUICK_SEARCH) if depth else None
                if oldest or depth <= _QUICK_SEARCH:
                    found[lane] = oldest.waits_s if oldest else 0
        return found

    def _lane(
        self, lane: Lane, live: dict[str, int], waiting: dict[str, int] | None, now_ms: int
    ) -> LaneView:
        return LaneView(
            live={str(state): live.get(f"{lane}:{state}", 0) for state in LIVE_STATES},
            oldest=self._oldest(lane, now_ms, _SEARCH) if waiting and waiting[lane.queue] else None,
        )

    def _oldest(self, lane: Lane, now_ms: int, limit: int) -> Oldest | None:
        found = [
            first
            for name in _lists(lane.queue)
            if (first := self._first_queued(name, limit)) is not None
        ]
        if not found:
            return None
        published, enqueued, message_id = min(found)
        return Oldest(
            message_id,
            timestamps.at(enqueued),
            age_s=max(0, now_ms - enqueued) / 1000,
            waits_s=max(0, now_ms - published) / 1000,
        )

    def _first_queued(self, name: str, limit: int) -> tuple[int, int, str] | None:
        """Return the next message of a list that is still to be sent: (published, enqueued, id).

        kombu pushes at the head and pops at the tail.
        """
        for start in (0, *range(_FIRST, limit, _PAGE)):
            ids = self._ids(name, start, _PAGE if start else _FIRST)
            if not ids:
                return None
            if found := first_queued(self._client, ids):
                return found
        return None

    def _ids(self, name: str, start: int, count: int) -> list[str]:
        try:
            bodies: Any = self._broker.lrange(name, -start - count, -start - 1)
        except redis.RedisError:  # it answered a moment ago
            return []
        # Of a batch the last one goes last.
        return [(ids_of(body) or [""])[-1] for body in reversed(bodies)]


def is_stopped(
    pauses: Sequence[Pause], accounts: Sequence[AccountView], routes: Sequence[Route]
) -> bool:
    """Return whether no account takes anything."""
    if not accounts:
        return any(pause.scope in {ACCOUNT, BREAKER} for pause in pauses)
    return all(one.stop for one in accounts if is_on_a_route(one.account, routes))


def queue_depths(broker: Client) -> dict[str, int]:
    """Return how much waits in each queue, of every priority. Raises redis.RedisError."""
    names = [(queue, name) for queue in QUEUES for name in _lists(queue)]
    counts = dict.fromkeys(QUEUES, 0)
    with broker.pipeline(transaction=False) as pipe:
        for _, name in names:
            pipe.llen(name)
        for (queue, _), count in zip(names, pipe.execute(), strict=True):
            counts[queue] += count
    return counts


def _lists(queue: str) -> Iterator[str]:
    """Yield the names of a queue's lists: kombu has one for each priority."""
    yield queue
    for step in PRIORITY_STEPS[1:]:
        yield f"{queue}{Channel.sep}{step}"


def total(live: dict[str, int], state: State) -> int:
    """Return how many messages of all lanes are in a state; `live` is from Control.live."""
    return sum(live.get(f"{lane}:{state}", 0) for lane in Lane)
