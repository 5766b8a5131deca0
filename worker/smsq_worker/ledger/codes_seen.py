"""Stat codes that came and that the catalogue does not know, as report.lua notes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq_worker.ledger import timestamps


@dataclass(frozen=True, slots=True)
class SeenCode:
    """A code that came in reports on messages."""

    stat: str
    count: int
    first_at: datetime
    last_at: datetime
    mid: str
    """Of the last of them: a sample for the vendor."""


def codes_seen(client: Client, url: str, account: str = "") -> list[SeenCode]:
    """List those of an account, the most frequent first. Raises LedgerUnavailable."""
    with mapped_errors(url):
        found: Any = client.hgetall(keys.at_account(keys.CODES_SEEN, account))
    return sorted(_read(found), key=lambda one: (-one.count, one.stat))


def _read(found: dict[str, str]) -> Iterator[SeenCode]:
    for stat, text in found.items():
        one = json.loads(text)
        first, last = timestamps.at(one["first"]), timestamps.at(one["last"])
        yield SeenCode(stat, int(one["count"]), first, last, one["mid"])
