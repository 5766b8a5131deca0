"""Who is compared, and how each of their workers runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bench.peers.drain import Contender
from bench.tree import released

SINGLE: Final = "smsq `delay()`"
BULK: Final = "smsq `send_many`"
CELERY: Final = "Celery, requests.get"
DRAMATIQ: Final = "Dramatiq, requests"
TASKIQ: Final = "taskiq, aiohttp"
RQ_SHARE: Final = 1 / 20


def before(release: str) -> str:
    """Name the earlier release."""
    return f"smsq {release} `delay()`"


def contenders(peer: str, release: str) -> list[Contender]:
    """Give all, one worker process each; `peer` is the Python of those that are not ours.

    Ours logs every message. The others are told not to, where they can be.
    """
    ours = [
        Contender(SINGLE, "ours_single", "as ops/ starts it, which logs every message; with keys"),
        Contender(BULK, "ours_bulk", "the same worker; send_many, lane bulk"),
        Contender(before(release), "ours_single", "the same, its own code", tree=released(release)),
    ]
    theirs = [
        Contender(TASKIQ, "taskiq_aiohttp", "64 coroutines (its default: 2 x 100)"),
        Contender("streaQ, aiohttp", "streaq_aiohttp", "64 coroutines (its default: 16)"),
        Contender(DRAMATIQ, "dramatiq_requests", "64 threads (its default: 2 x 8)"),
        Contender("Huey, requests", "huey_requests", "64 threads (its default: 1)"),
        Contender(CELERY, "naive_celery", "64 threads (its default: a process per core)"),
        Contender(
            "rq, requests",
            "rq_requests",
            f"one job at a time, each in a process of its own; so {RQ_SHARE:.0%} of the messages",
            share=RQ_SHARE,
        ),
    ]
    return ours + [replace(one, python=peer, database=n) for n, one in enumerate(theirs, 1)]
