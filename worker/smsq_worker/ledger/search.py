"""Finding messages by number: the ledger has no index of numbers, so all of it is scanned.

It goes in slices short enough that nobody waits for them, with an equally long pause after each. A
live message is found by the digest of its number. One that has ended keeps only the masked number,
so it may be another's with the same first three and last four digits.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from smsq.connection import Client, mapped_errors
from smsq_worker.config.rules import Rules
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.scripts import Scripts

SLICE: Final = 500
"""Keys scanned in one act: about a millisecond."""


def find(
    client: Client,
    rules: Rules,
    masked: str,
    digests: Iterable[str],
    *,
    last: int,
    told: Callable[[int, int], None],
) -> tuple[list[tuple[str, datetime]], int]:
    """Return the newest messages (id, enqueued) to a number, and how many there are in all.

    `told` is called after each slice with the keys scanned and the messages found.
    Raises LedgerUnavailable.
    """
    script = Scripts(client, rules).act("find")
    found: dict[str, int] = {}
    cursor, looked = "0", 0
    while True:
        began = time.monotonic()
        with mapped_errors(rules.url):
            cursor, *rows = script(args=[cursor, SLICE, masked, *digests])
        found.update(zip(rows[::2], map(int, rows[1::2]), strict=True))
        looked += SLICE
        told(looked, len(found))
        if cursor == "0":
            break
        time.sleep(time.monotonic() - began)
    newest = heapq.nlargest(last, found.items(), key=lambda one: (one[1], one[0]))
    return [(message_id, timestamps.at(ms)) for message_id, ms in newest], len(found)


def size(client: Client, rules: Rules) -> int:
    """Count the keys that `find` scans. Raises LedgerUnavailable."""
    with mapped_errors(rules.url):
        return client.dbsize()
