"""Filling the ledger fast: what would take a backend an hour, in a minute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from celery.utils import uuid

import smsq
from bench.place import Place
from bench.product import enter_many, ledger_writer
from bench.shapes import BATCH, CODE, TEMPLATE
from harness.waiting import eventually
from smsq import keys
from smsq.app import app
from smsq.contract import Lane, Message, State, parse

SLICE = 1000
FIRST = 10_000_000
"""Where numbers begin, of all those that are no probes."""

try:
    from smsq.publishing import publish
except ImportError:  # of releases before 0.3.0
    from smsq.tasks import publish  # type: ignore[attr-defined,no-redef]


@dataclass(frozen=True)
class Filled:
    """What was queued."""

    messages: int
    wakeups: int
    seconds: float

    def plus(self, other: Filled) -> Filled:
        """Add what was queued besides."""
        return Filled(
            self.messages + other.messages,
            self.wakeups + other.wakeups,
            self.seconds + other.seconds,
        )


ORIGINAL = Filled(1, 1, 0.0)
"""The message of which `accepted` makes copies."""


def queue(count: int, lane: Lane, shape: str, send_at: float | None = None) -> Filled:
    """Enqueue messages, to go now or at a time (Unix seconds)."""
    began, wakeups = time.monotonic(), 0
    batched = {"singles": 0, "batches": count, "both": count // 2}[shape]
    rows = ({"phone": phone(n), "template": TEMPLATE, "code": CODE} for n in range(batched))
    timed = ({**row, "send_at": send_at} for row in rows) if send_at else rows
    smsq.send_many(timed, lane=lane, batch_size=BATCH)
    wakeups += 0 if send_at else -(-batched // BATCH)
    for ids in _enter(range(batched, count), lane, send_at):
        if not send_at:
            _wake(ids, lane)
            wakeups += len(ids)
    return Filled(count, wakeups, time.monotonic() - began)


def phone(n: int) -> str:
    """Give a number of those that are no probes."""
    return f"139{FIRST + n:08}"


def _enter(numbers: range, lane: Lane, send_at: float | None) -> Iterator[list[str]]:
    """Write single messages to the ledger, a slice in one act; give their ids."""
    for start in range(0, len(numbers), SLICE):
        some: list[tuple[str, Message]] = [
            (uuid(), parse((phone(n), TEMPLATE, CODE), {"lane": lane, "send_at": send_at}))
            for n in numbers[start : start + SLICE]
        ]
        states = enter_many(ledger_writer(app), some)
        assert set(states) <= {State.QUEUED, State.DEFERRED}, states[:3]
        yield [message_id for message_id, _ in some]


def _wake(ids: list[str], lane: Lane) -> None:
    """Publish single wake-ups: a real one's copies, which differ in the id and the tag."""
    with app.connection_for_write() as connection:
        client: redis.Redis = connection.default_channel.client
        publish(app, model := uuid(), lane, argsrepr=f"('139****0000', '{TEMPLATE}')")
        # Only the bench puts anything into the queue while it fills it.
        envelope = _text(client.lpop(lane.queue))
        assert model in envelope, "another wake-up was published meanwhile"
        tag = envelope.partition('"delivery_tag": "')[2].partition('"')[0]
        client.lpush(
            lane.queue,
            *(envelope.replace(model, one).replace(tag, uuid()) for one in ids),
        )


_CLONE = """
-- Copy one accepted message, its mid and its timer as often as told: ARGV are id, mid, the timer's
-- new time, the first copy's number and how many. KEYS are the sorted sets that name it.
local id, mid, at, first, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local fields = redis.call('HGETALL', 'smsq:m:' .. id)
local payload = redis.call('GET', 'smsq:p:' .. id)
local led = redis.call('PTTL', 'smsq:mid:' .. mid)
local lane = redis.call('HGET', 'smsq:m:' .. id, 'lane')
for n = first, first + count - 1 do
  local copy, copied = string.format('copy-%d-%s', n, id:sub(1, 19)), string.format('%016X', n)
  for i = 2, #fields, 2 do if fields[i - 1] == '1:mid' then fields[i] = copied end end
  redis.call('HSET', 'smsq:m:' .. copy, unpack(fields))
  if payload then redis.call('SET', 'smsq:p:' .. copy, payload) end
  redis.call('SET', 'smsq:mid:' .. copied, '1 ' .. copy, 'PX', led)
  for _, key in ipairs(KEYS) do redis.call('ZADD', key, at, copy) end
end
redis.call('HINCRBY', 'smsq:live', lane .. ':accepted', count)
"""
MIDS = 0x10_0000_0000
"""Where the copies' mids begin; the gateway's own begin at 1."""


def accepted(place: Place, count: int, timer_at_ms: int) -> list[str]:
    """Copy one accepted message, the only one there is; give the copies' mids."""
    (message_id,) = place.enqueue(1, "bulk", first=FIRST - 1).values()
    (call,) = eventually(place.gateway.calls, 60)
    eventually(lambda: _field(place, message_id, "state") == "accepted", 60)
    naming = [
        key
        for key in place.client.scan_iter(f"{keys.PREFIX}*", _type="zset")
        if place.client.zscore(key, message_id) is not None
    ]
    assert naming, "no timer names an accepted message"
    clone: Any = place.client.register_script(_CLONE)
    for n in range(MIDS, MIDS + count, SLICE):
        slice_ = min(SLICE, MIDS + count - n)
        clone(keys=naming, args=[message_id, call.mid, timer_at_ms, n, slice_])
    return [f"{n:016X}" for n in range(MIDS, MIDS + count)]


def _field(place: Place, message_id: str, name: str) -> str:
    return _text(place.client.hget(keys.message(message_id), name))


def _text(found: Any) -> str:
    return found.decode() if isinstance(found, bytes) else str(found)
