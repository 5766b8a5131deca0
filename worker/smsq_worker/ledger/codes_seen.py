"""Stat codes that came and that the catalogue does not know, as report.lua notes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smsq import keys
from smsq.connection import Client
from smsq_worker.ledger.reading import asked
from smsq_worker.ledger.timestamps import at


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
    found: Any = asked(url, client.hgetall, keys.at_account(keys.CODES_SEEN, account))
    seen = [_read(stat, json.loads(text)) for stat, text in found.items()]
    return sorted(seen, key=lambda one: (-one.count, one.stat))


def _read(stat: str, one: dict[str, Any]) -> SeenCode:
    return SeenCode(stat, int(one["count"]), at(one["first"]), at(one["last"]), one["mid"])
