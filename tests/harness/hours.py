"""Hours pass for what is counted by the hour: what is stored becomes that of an hour before."""

from __future__ import annotations

import redis

from smsq import keys
from smsq_worker.ledger.quality import last_hour
from smsq_worker.ledger.weights import read_moved

SHARE_HOUR = "share:hour"


def an_hour_passes(client: redis.Redis, url: str) -> None:
    """Date what was counted back: what came since the last call is the last hour's that counts."""
    last = last_hour(client, url)
    for hour in range(last - 3, last + 1):
        if client.exists(keys.quality(hour)):
            client.rename(keys.quality(hour), keys.quality(hour - 1))
    # The hour may have turned since: what is newer is one hour's.
    for hour in range(last + 1, last + 4):
        for field, n in client.hgetall(keys.quality(hour)).items():  # type: ignore[union-attr]
            client.hincrby(keys.quality(last), field, int(n))
        client.delete(keys.quality(hour))
    if (moved := read_moved(client, url)).hour:
        client.hset(keys.WEIGHTS, SHARE_HOUR, min(int(moved.hour), last) - 1)
