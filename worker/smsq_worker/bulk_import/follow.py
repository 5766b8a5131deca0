"""Following the messages of a file to their end."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final

from smsq.connection import Client
from smsq.contract import FINAL, State
from smsq_worker.ledger.states import read_states

UNKNOWN: Final = "unknown"
"""Stands for the state of a message that the ledger has forgotten."""

_BATCH: Final = 500
_LEAST_PAUSE_S: Final = 0.5
_PAUSE: Final = 2
"""Times as long as the look took: looking must not keep Redis busy."""


def follow(
    client: Client, url: str, ids: Path, told: Callable[[Counter[str], int], None]
) -> Counter[str]:
    """Wait until every message is final or held; return how many are in each state.

    `told` is called after each look with the counts, and how many are not final. Ids stay on the
    disk, and only those of messages that are not final are looked at again. Raises
    LedgerUnavailable.
    """
    ended: Counter[str] = Counter()
    waiting: IO[str] = ids.open(encoding="ascii")
    try:
        while True:
            with waiting:
                waiting, live, took_s = _look(client, url, waiting, ended)
            told(ended + live, live.total())
            if not set(live) - {State.HELD}:
                return ended + live
            time.sleep(max(_LEAST_PAUSE_S, _PAUSE * took_s))
    finally:
        waiting.close()


def _look(
    client: Client, url: str, ids: IO[str], ended: Counter[str]
) -> tuple[IO[str], Counter[str], float]:
    """Read all; return the ids of those not final, their counts, and the seconds it took."""
    began = time.monotonic()
    left = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - the caller's
    live: Counter[str] = Counter()
    for batch in _batches(ids):
        for one, state in zip(batch, read_states(client, url, batch), strict=True):
            if state is None or state in FINAL:
                ended[state or UNKNOWN] += 1
            else:
                live[state] += 1
                left.write(f"{one}\n")
    left.seek(0)
    return left, live, time.monotonic() - began


def _batches(ids: IO[str]) -> Iterator[list[str]]:
    lines = map(str.rstrip, ids)
    while batch := list(islice(lines, _BATCH)):
        yield batch
