"""The audit stream: what operators did."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from smsq import keys
from smsq.connection import Client, mapped_errors
from smsq_worker.ledger.timestamps import at, ms

AT_MOST: Final = 100_000
"""As in audit.lua."""
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What an operator did, and what came of it."""

    at: datetime
    who: str
    what: str
    arguments: str
    """JSON."""
    effect: str


def add_act(pipe: Any, act: str, effect: str) -> None:
    """Add to a transaction that an act of `smsq.audit` is noted; scripts do it by audit.lua."""
    who, what, arguments = json.loads(act)[:3]
    entry = {"who": who, "what": what, "arguments": arguments, "effect": effect}
    pipe.xadd(keys.AUDIT, entry, maxlen=AT_MOST, approximate=True)


def entries(
    client: Client,
    url: str,
    *,
    since: datetime | None,
    at_most: int,
    is_wanted: Callable[[Entry], bool],
) -> list[Entry]:
    """Return the newest entries, the oldest of them first. Raises LedgerUnavailable."""
    with mapped_errors(url):
        found = [*islice(filter(is_wanted, _newest_first(client, since)), at_most)]
    return found[::-1]


def _newest_first(client: Client, since: datetime | None) -> Iterator[Entry]:
    last, first = "+", str(max(0, ms(since))) if since else "-"  # A stream has no id before 1970.
    while True:
        page: Any = client.xrevrange(keys.AUDIT, last, first, count=_PAGE)
        for entry_id, fields in page:
            texts = (fields.get(name, "") for name in ("who", "what", "arguments", "effect"))
            yield Entry(at(int(entry_id.partition("-")[0])), *texts)
        if len(page) < _PAGE:
            return
        last = f"({page[-1][0]}"
