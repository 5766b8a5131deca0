"""`smsq doctor`: look at everything that messages depend on, and say what to change.

Nothing is changed, no SMS is sent, and the gateway is sent no HTTP request. The parts are looked
at side by side, each in a thread, and what has not been answered by the end of the time is told
as such: a doctor that hangs with its patient is of no use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Thread
from typing import Final

from smsq.redis_urls import names_sentinels
from smsq_worker.config.settings import Settings
from smsq_worker.doctor import (
    api,
    backlog,
    clocks,
    encryption,
    gateway,
    queues,
    schema,
    sentinels,
    server,
    spool,
)
from smsq_worker.doctor.access import asking
from smsq_worker.doctor.finding import Finding, error
from smsq_worker.infra.heartbeat import FOLDER

WITHIN_S: Final = 7.5

Look = Callable[[], Iterable[Finding]]


def examine(settings: Settings, *, within_s: float = WITHIN_S) -> list[tuple[str, Finding]]:
    """Look at every part; give what was found, each with the name of its part."""
    return look_at(parts(settings), within_s=within_s)


def parts(settings: Settings) -> dict[str, Look]:
    """Name the parts, each with how to look at it."""
    ledger = partial(asking, settings.redis_url, "SMSQ_REDIS_URL")
    broker = ledger
    found: dict[str, Look] = {"ledger": partial(ledger, server.examine)}
    if settings.broker_url != settings.redis_url:
        broker = partial(asking, settings.broker_url, "SMSQ_BROKER_URL")
        found["broker"] = partial(broker, partial(server.examine, is_ledger=False))
    if names_sentinels(settings.redis_url):
        look = partial(sentinels.examine, settings.redis_url, settings.wait_replicas)
        found["sentinels"] = partial(ledger, look, follows=True)
    look_at_queues = partial(queues.examine, settings.broker_url)
    return found | {
        "queues": partial(broker, look_at_queues, follows=True),
        "schema": partial(ledger, schema.examine, follows=True),
        "messages": partial(ledger, backlog.examine, follows=True),
        "encryption": partial(ledger, partial(encryption.examine, settings), follows=True),
        "clocks": partial(clocks.examine, settings.home / FOLDER),
        "spool": partial(spool.examine, settings.home / "spool"),
        "gateway": partial(gateway.examine, settings),
        "door": partial(api.examine, settings),
    }


def look_at(parts: Mapping[str, Look], *, within_s: float) -> list[tuple[str, Finding]]:
    """Look at all parts at once, and for no longer than is told."""
    found: dict[str, list[Finding]] = {name: [] for name in parts}
    threads = {
        # Daemons: nothing can end a thread that waits for a resolver.
        name: Thread(target=_collect, args=(look, found[name]), daemon=True)
        for name, look in parts.items()
    }
    deadline = time.monotonic() + within_s
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            found[name].append(
                error(
                    f"could not be looked at to the end within {within_s:g} s",
                    "something that it depends on does not answer, perhaps the name server",
                )
            )
    return [(name, finding) for name, findings in found.items() for finding in tuple(findings)]


def _collect(look: Look, found: list[Finding]) -> None:
    try:
        found.extend(look())
    except Exception as problem:  # noqa: BLE001 - the other parts are to be told all the same
        # By its type alone: nobody knows what its text holds.
        told = f"could not be looked at: {type(problem).__name__}"
        found.append(error(told, "this is a fault of smsq doctor; please report it"))
