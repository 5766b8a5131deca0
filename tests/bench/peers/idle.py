"""How long an otp takes from `delay()` to the gateway while nothing else is to be done."""

from __future__ import annotations

import time

from bench.peers.drain import UNLIMITED
from bench.place import Place
from bench.product import ACCOUNT
from harness.waiting import becomes, eventually

MESSAGES = 100


def measure(place: Place) -> list[float]:
    """Send one after the other; give the seconds of each."""
    place.fresh("idle", **UNLIMITED)
    place.gateway.set(latency=0)
    place.control.resume(ACCOUNT, "nothing is to wait for")
    place.start_workers(1)
    took = []
    for n in range(MESSAGES + 1):
        began = time.monotonic()
        (message_id,) = place.enqueue(1, "otp", first=n).values()
        (call,) = eventually(lambda n=n: place.gateway.calls(n))
        took.append(call.at - began)
        becomes(message_id, "accepted")
    place.stop_workers()
    return took[1:]  # the first one loads and connects
