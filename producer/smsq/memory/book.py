"""What a memory ledger holds: messages, their timers, keys and mids; all of it bounded."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from smsq.errors import LedgerFull
from smsq.memory.message import Stored
from smsq.memory.numbers import Numbers
from smsq.memory.rules import Bounded, Clock, Meaning, Rules


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an idempotency key, what it was taken for, and until when."""

    id: str
    fingerprint: str
    until: int


class Way(NamedTuple):
    """Which attempt of which message a mid belongs to, and until when."""

    n: int
    id: str
    """"" where it was given to two messages."""
    until: float = math.inf


@dataclass(slots=True)
class Campaign:
    """What an operator decided of a campaign, and who waits for it to go on."""

    since: int
    stop: str = ""
    """"", paused or cancelled."""
    stopped: int = 0
    is_unswept: bool = False
    messages: int = 0
    """How many are known; without one it is forgotten."""
    waiting: dict[str, None] = field(default_factory=dict)


class Book:
    """The state of a memory ledger; acts of the other modules change it under its lock."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        self.rules, self.clock = rules, clock
        self.messages: dict[str, Stored] = {}
        self.keys = Bounded[tuple[str, str], Holder](rules.at_most)
        self.mids = Bounded[str, Way](rules.at_most)
        self.early = Bounded[str, tuple[int, list[Meaning]]](rules.at_most)
        """Reports whose mid leads to no message (yet), and until when they are kept."""
        self.campaigns: dict[str, Campaign] = {}
        self.numbers = Numbers(rules)
        self.ended: deque[dict[str, str]] = deque(maxlen=rules.at_most)
        """Callbacks for `notify` tasks: the fields of messages that have ended."""
        self._timers: list[tuple[int, str]] = []

    @property
    def now(self) -> int:
        """The time in ms."""
        return self.clock.now_ms()

    def add(self, m: Stored) -> None:
        """Hold a new message."""
        self.messages[m.id] = m
        one = self.campaign_of(m)
        if one:
            one.messages += 1

    def make_room(self, count: int) -> None:
        """Forget the oldest that have ended. Raises LedgerFull where that is not enough."""
        too_many = len(self.messages) + count - self.rules.at_most
        if too_many <= 0:
            return
        ended = [m.id for m in self.messages.values() if m.is_final][:too_many]
        if len(ended) < too_many:
            raise LedgerFull(
                f"the ledger in this process' memory holds {self.rules.at_most} messages at most, "
                "and these are one too many that have not ended; nothing was entered"
            )
        for message_id in ended:
            self.forget(message_id)

    def forget(self, message_id: str) -> None:
        """Forget a message, and the mids of its attempts."""
        m = self.messages.pop(message_id)
        for n in range(1, m.n + 1):
            self.mids.pop(m.of(n, "mid") or "", None)
        one = self.campaign_of(m)
        if one:
            one.messages -= 1
            if not one.messages:
                del self.campaigns[m.fields["campaign"]]

    def campaign(self, name: str) -> Campaign | None:
        """Return a campaign's record."""
        one = self.campaigns.get(name)
        if one and not one.messages and self.now >= one.since + self.rules.retention_s * 1000:
            del self.campaigns[name]
            return None
        return one

    def campaign_of(self, m: Stored) -> Campaign | None:
        """Return the record of a message's campaign."""
        return self.campaigns.get(m.fields["campaign"]) if m.has("campaign") else None

    def forget_campaigns(self) -> None:
        """Forget those that never had a message; with its last message each goes anyway."""
        for name in [*self.campaigns]:
            self.campaign(name)

    def set_timer(self, m: Stored, at: int | None) -> None:
        """Set when something is to happen to a message; None: nothing is."""
        m.timer = at
        if at is None:
            return
        heapq.heappush(self._timers, (at, m.id))
        if len(self._timers) > 3 * len(self.messages) + 1000:  # most are of timers set anew
            live = self.messages.values()
            self._timers = [(one.timer, one.id) for one in live if one.timer is not None]
            heapq.heapify(self._timers)

    def due(self) -> Iterator[Stored]:
        """Yield messages whose timers have run out, the oldest first."""
        while self._timers and self._timers[0][0] <= self.now:
            at, message_id = heapq.heappop(self._timers)
            m = self.messages.get(message_id)
            if m and m.timer == at:
                yield m

    def holder_of(self, key: tuple[str, str]) -> Holder | None:
        """Return who holds an idempotency key."""
        holder = self.keys.get(key)
        if holder and holder.until <= self.now:
            del self.keys[key]
            return None
        return holder

    def take(self, key: tuple[str, str], message_id: str, fingerprint: str) -> None:
        """Make a message the holder of a key that nobody holds."""
        until = self.now + self.rules.key_ttl_s * 1000
        self.keys[key] = Holder(message_id, fingerprint, until)
