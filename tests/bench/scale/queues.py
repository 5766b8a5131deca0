"""What is in the queues: how many wake-ups, and how often they name the same message."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.place import Place
from smsq.contract import SEND_BATCH, Lane

SLICE = 1000
LANES = [lane.queue for lane in Lane]


@dataclass(frozen=True)
class Waiting:
    """The wake-ups in the lanes' queues, with those that workers have taken."""

    wakeups: int
    names: int
    """How many messages they name, each as often as it is named."""
    messages: int
    """How many different ones."""


def waiting(place: Place) -> Waiting:
    """Read the queues. Sending should be paused: what moves meanwhile is missed, or seen twice."""
    named: set[str] = set()
    wakeups = names = 0
    for envelope in _envelopes(place):
        if ids := _ids(envelope):
            wakeups += 1
            names += len(ids)
            named.update(ids)
    return Waiting(wakeups, names, len(named))


def length(place: Place) -> int:
    """Count the wake-ups in the queues, without those taken."""
    with place.client.pipeline(transaction=False) as pipe:
        for queue in LANES:
            pipe.llen(queue)
        return sum(pipe.execute())


def _envelopes(place: Place) -> Iterator[dict[str, Any]]:
    for queue in LANES:
        # From the end at which they are taken, so that what is published meanwhile moves nothing.
        end = -1
        while some := place.client.lrange(queue, end - SLICE + 1, end):
            yield from map(json.loads, some)
            end -= SLICE
    for _, text in place.client.hscan_iter("unacked", count=SLICE):
        yield json.loads(text)[0]


def _ids(envelope: dict[str, Any]) -> list[str]:
    """Give the messages that a wake-up of any release names; none where it is something else."""
    headers, body = envelope.get("headers", {}), envelope.get("body")
    if headers.get("task") != SEND_BATCH:
        return [headers["id"]] if str(headers.get("task", "")).startswith("smsq.send") else []
    is_encoded = envelope["properties"].get("body_encoding") == "base64"
    args, *_ = json.loads(b64decode(body) if is_encoded else body)
    return list(args[0])
