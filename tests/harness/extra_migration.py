"""A migration of the tests' own, after those of the release."""

from __future__ import annotations

import os
from collections.abc import Iterator

import redis

from smsq.connection import connect
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.migrations import MIGRATIONS, Migration, migrate
from smsq_worker.ledger.scripts import Scripts

NEWEST = MIGRATIONS[-1].version


def _move(client: redis.Redis, _: Scripts) -> Iterator[None]:
    """Bring what is in smsq:x to smsq:y, one at a time."""
    while name := client.srandmember("smsq:x"):
        client.smove("smsq:x", "smsq:y", str(name))
        yield


EXTRA = (*MIGRATIONS, Migration(NEWEST + 1, "x is y", slices=_move))


if __name__ == "__main__":
    settings = Settings.load(os.environ)
    migrate(connect(settings.redis_url), settings.rules, EXTRA)
