"""What the ledger costs: Redis' time and memory, by the number of messages in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, Final

from cryptography.fernet import Fernet

from bench.peers.drain import UNLIMITED
from bench.peers.vendor import CODE, TEMPLATE, phones
from bench.place import Place
from bench.product import Admitted, Ledger, LedgerWriter, Outcome, Report, Settings, opener
from harness.waiting import eventually
from smsq import keys
from smsq.contract import parse

DELIVRD: Final = Report("DELIVRD", "delivered", 0, maybe_sent=False, counted_as="reports:DELIVRD")
FEW, MANY = 1_000, 1_000_000
DELIVERED: Final = 10_000
"""Over which the memory is taken: tables grow by doubling, so few messages would not tell."""
BLOCKS, BLOCK = 10, 50
SETTLED_S: Final = 120.0
AT_ONCE: Final = 10_000
"""Copies by one script: Redis does nothing else meanwhile, and the client waits 5 s at most."""

# Half of the messages wait with their timers, half are delivered and expire some day.
COPY = """
for n = ARGV[1], ARGV[2] do
  local id = string.format('00000000-0000-4000-8000-%012d', n)
  if n % 2 == 0 then
    redis.call('COPY', KEYS[1], ARGV[3] .. id)
    redis.call('COPY', KEYS[2], ARGV[4] .. id)
    redis.call('ZADD', KEYS[3], ARGV[6] + n, id)
  else
    redis.call('COPY', KEYS[4], ARGV[3] .. id)
    redis.call('COPY', KEYS[5], ARGV[5] .. string.format('F%015X', n))
  end
end
"""


@dataclass(frozen=True)
class Cost:
    """What an act costs, in us."""

    server: float
    """Redis' own time: the median of means over blocks, so that one hiccup does not count."""
    round_trip: float
    """The median, our own Python included."""


class Books:
    """A ledger that is emptied, filled and asked."""

    def __init__(self, place: Place, **settings: object) -> None:
        place.fresh("ledger", **UNLIMITED, **settings)
        self._client = place.client
        self._client.flushall()
        found = Settings.load(place.environ)
        cipher = opener(self._client, found)
        self._ledger = Ledger(self._client, found.rules, cipher)
        self._entrance = LedgerWriter(self._client, found, cipher)
        self._mids = 0

    def bytes_each(self, count: int) -> float:
        """Send so many to the end; give the memory that each takes from then on."""
        self._deliver(1)  # scripts, counters and the like are there once
        before = self._used_memory()
        self._deliver(count)
        return (self._used_memory() - before) / count

    def costs(self, messages: int) -> dict[str, Cost]:
        """Fill it up; give the costs of admit and record."""
        self._fill(messages)
        ids = self._enter(BLOCKS * BLOCK)
        return {"admit": self._timed(self._admit, ids), "record": self._timed(self._record, ids)}

    def _timed(self, act: Callable[[list[str]], object], ids: list[str]) -> Cost:
        blocks, times = [], []
        for first in range(0, len(ids), BLOCK):
            self._client.config_resetstat()
            for one in ids[first : first + BLOCK]:
                began = time.perf_counter()
                act([one])
                times.append(time.perf_counter() - began)
            stats: Any = self._client.info("commandstats")
            # As one of them is run, which depends on the release and the rights.
            ways = (stats.get(f"cmdstat_{one}", {"usec": 0}) for one in ("evalsha", "fcall"))
            blocks.append(sum(way["usec"] for way in ways) / BLOCK)
        return Cost(median(blocks), median(times) * 1e6)

    def _enter(self, count: int) -> list[str]:
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for one, phone in zip(ids, phones(0, count), strict=True):
            self._entrance.enter(one, parse((phone, TEMPLATE, CODE), {}))
        return ids

    def _admit(self, ids: list[str]) -> None:
        for one in ids:
            assert isinstance(self._ledger.admit(one), Admitted)

    def _record(self, ids: list[str]) -> list[str]:
        mids = []
        for one in ids:
            self._mids += 1
            mids.append(f"{self._mids:016X}")
            self._ledger.record(one, 1, Outcome.ACCEPTED, detail="", mid=mids[-1])
        return mids

    def _deliver(self, count: int) -> tuple[str, str]:
        """Give the id and the mid of the last."""
        ids = self._enter(count)
        self._admit(ids)
        mids = self._record(ids)
        for mid in mids:
            self._ledger.report(mid, DELIVRD.stat, DELIVRD)
        return ids[-1], mids[-1]

    def _fill(self, messages: int) -> None:
        """Bring in copies of a message that waits and of one that is delivered."""
        (waiting,) = self._enter(1)
        delivered, mid = self._deliver(1)
        sources = [keys.message(waiting), keys.payload(waiting), keys.TIMERS]
        sources += [keys.message(delivered), keys.mid(mid)]
        prefixes = [keys.message(""), keys.payload(""), keys.mid("")]
        later = int(time.time() * 1000) + 3_600_000
        copy = self._client.register_script(COPY)
        for first in range(0, messages, AT_ONCE):
            last = min(first + AT_ONCE, messages) - 1
            copy(keys=sources, args=[first, last, *prefixes, later])
        # With the interpreter goes its garbage, which would burden the scripts that are measured.
        self._client.script_flush("SYNC")
        self._settle()

    def _settle(self) -> None:
        """Wait until no table grows: that is done step by step, slows down, and takes memory."""
        eventually(lambda: not self._memory()["mem_overhead_db_hashtable_rehashing"], SETTLED_S)

    def _used_memory(self) -> int:
        # Kept for a second, however many there were.
        self._client.delete(keys.CALLS)
        self._settle()
        return int(self._memory()["used_memory"])

    def _memory(self) -> dict[str, Any]:
        info: Any = self._client.info("memory")
        return dict(info)


@dataclass(frozen=True)
class Costs:
    """What the ledger came to."""

    bytes_plain: float
    bytes_sealed: float
    rows: list[dict[str, Any]]
    growth: float
    """Redis' time for admit and record with many messages, as so many times that with few."""


def measure(place: Place) -> Costs:
    """Measure everything. Redis is empty after it."""
    # Redis is to do nothing beside what is measured: no file rewritten, nothing freed later.
    place.client.config_set("auto-aof-rewrite-percentage", 0)
    place.client.config_set("lazyfree-lazy-user-flush", "no")
    place.client.config_set("lazyfree-lazy-user-del", "no")
    plain = Books(place).bytes_each(DELIVERED)
    sealed = Books(place, SMSQ_PAYLOAD_KEYS=Fernet.generate_key().decode()).bytes_each(DELIVERED)
    # Few before and after, so that a machine that slows down is not taken for a slow ledger.
    stages = [(count, Books(place).costs(count)) for count in (FEW, MANY, FEW)]
    rows = [
        {
            "messages in it": f"{count:,}",
            **{f"{name}: redis": f"{cost.server:.0f} us" for name, cost in costs.items()},
            **{f"{name}: there and back": f"{c.round_trip:.0f} us" for name, c in costs.items()},
        }
        for count, costs in stages
    ]
    both = [sum(cost.server for cost in costs.values()) for _, costs in stages]
    place.client.flushall()
    place.client.bgrewriteaof()  # it has grown by what was copied
    return Costs(plain, sealed, rows, both[1] / mean((both[0], both[2])))
