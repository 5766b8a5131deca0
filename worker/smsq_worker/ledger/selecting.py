"""Finding messages by what is known of them, newest first, and counting them.

It goes by the lists of SMSQ_INDEX, or through all of the ledger; in slices short enough that nobody
waits for them, with a pause after each as long as the server took for it. What comes, ends or is
forgotten meanwhile may be met in either state, but in a list nothing changes its place.
"""

from __future__ import annotations

import heapq
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from smsq import keys
from smsq.cipher import PlaintextCipher
from smsq.connection import Client, perform
from smsq.contract import mask_phone
from smsq.steps import unfailed
from smsq_worker.config.rules import Rules
from smsq_worker.ledger import timestamps
from smsq_worker.ledger.acts import Acts

SLICE: Final = 200
"""Messages, or keys of the whole ledger, looked at in one act: some 0.6 ms, 1 in one of a million.
An otp that comes meanwhile waits for half of it: more slices keep it less than larger ones."""
LONGEST_PAUSE_S: Final = 1.0
"""Where the server's clock was set while it looked."""
HOUR_MS: Final = 3_600_000
GROUPS_AT_MOST: Final = 100_000
"""How many groups are counted apart; what comes in others is counted as one."""
PATTERNS: Final = ("state", "reason", "template", "lane", "campaign", "caller", "reference")
"""Fields that are compared with patterns."""
GROUPS: Final = (*PATTERNS[:-1], "stat", "hour", "day")
"""What can be counted by; hours and days are those of the entry."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions of messages: all must be met, of each the patterns are alternatives."""

    patterns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By field of PATTERNS. `*` stands for any characters."""
    since: datetime | None = None
    until: datetime | None = None
    """When it was entered: not before, and before."""
    phone: str = field(default="", repr=False)
    """11 digits. Compared exactly while the ledger has the number, then with its masked form."""
    key: str = field(default="", repr=False)
    """An idempotency key: its holder, and live messages that were sent with it."""


class Found(NamedTuple):
    """A page of messages."""

    rows: list[tuple[str, datetime]]
    """Ids and when they were entered, the newest first."""
    after: str
    """Where the next page begins; "" where there is none."""
    by_mask: int
    """How many of them were matched by the mask of their number alone."""


class Counts(NamedTuple):
    """How many messages there are by the values of some fields."""

    groups: dict[tuple[Any, ...], int]
    by_mask: int


class BadCursor(ValueError):  # noqa: N818 - says what is so
    """A page was asked for by what no page before it ended with."""


class Selector(Acts):
    """Looks messages up in the ledger. Raises LedgerUnavailable."""

    def __init__(
        self,
        client: Client,
        rules: Rules,
        ciphers: Sequence[PlaintextCipher],
        callers: Sequence[str] = (),
    ) -> None:
        """`callers` are the relay's, whose idempotency keys are kept apart."""
        super().__init__(client, rules)
        self._ciphers = ciphers
        self._spaces = ("", "file:", "relay::", *(f"relay:{name}:" for name in callers))

    def page(
        self,
        selection: Selection,
        limit: int,
        after: str = "",
        *,
        scan: bool = False,
        on_slice: Callable[[int, int], None] = lambda _looked, _found: None,
    ) -> Found:
        """Return at most `limit` messages, the newest first, that come after a page's end.

        `scan` looks through all of the ledger, for what no list has; after each of its slices
        `on_slice` gets how many keys were scanned and messages found so far. Raises BadCursor.
        """
        rows: list[_Row] = []
        by_mask, begin = 0, _begin(after, scan=scan)
        for n, one in enumerate(self._slices(selection, [], begin, scan=scan), 1):
            rows += reversed(_rows(one, begin))
            by_mask += one.by_mask
            if len(rows) > limit:
                if not scan:
                    break
                rows = heapq.nlargest(limit + 1, set(rows))
            on_slice(n * SLICE, len(rows))
        if scan:
            rows = sorted(set(rows), reverse=True)  # SCAN may give one twice.
        is_last = len(rows) <= limit
        rows = rows[:limit]
        return Found(
            [(row.id, timestamps.at(row.enqueued)) for row in rows],
            "" if is_last else _cursor(rows[-1], scan=scan),
            by_mask,
        )

    def count(self, selection: Selection, by: Sequence[str], *, scan: bool = False) -> Counts:
        """Count messages by some of GROUPS; hours and days are local, as datetimes."""
        groups: Counter[tuple[Any, ...]] = Counter()
        by_mask = 0
        fields = ["hour" if name == "day" else name for name in by] or ["lane"]
        for one in self._slices(selection, fields, scan=scan):
            by_mask += one.by_mask
            for values, count in zip(one.found[::2], one.found[1::2], strict=True):
                group = tuple(map(_value, by, json.loads(values)))
                if group not in groups and len(groups) >= GROUPS_AT_MOST:
                    group = ("other",) * len(by)
                groups[group] += int(count)
        return Counts(dict(groups), by_mask)

    def size(self) -> int:
        """Return how many keys a scan goes through."""
        return self._ask(self._client.dbsize)

    def _slices(
        self, selection: Selection, by: Sequence[str], begin: _Begin | None = None, *, scan: bool
    ) -> Iterator[_Slice]:
        """Yield what the lists have, the newest first, or all that the ledger has."""
        conditions, cursor = self._conditions(selection), "0"
        for hour in () if scan else self._hours(selection):
            if begin and hour > begin.first:
                continue
            end = self._ask(self._client.llen, keys.ids_of(hour))
            if begin and hour == begin.first:
                end = min(end, int(begin.second))
            while end > 0:
                start = max(0, end - SLICE)
                yield self._slice(conditions, by, hour, start, end - 1)
                end = start
        while scan:
            one = self._slice(conditions, by, 0, cursor, SLICE)
            yield one
            cursor = one.cursor
            scan = cursor != "0"

    def _slice(self, conditions: str, by: Sequence[str], hour: int, *places: int | str) -> _Slice:
        args = (0, hour or "all", *places, conditions, json.dumps(by))
        steps = self._scripts.act("select").run(args, [("TIME",)])
        answer, ended = self._ask(lambda: unfailed(perform(self._client, steps)))
        cursor, by_mask, began, *found = answer
        # As long as others had to wait: until the answer is here is longer, on a busy machine.
        time.sleep(min(max(0.0, _seconds(ended) - _seconds(began)), LONGEST_PAUSE_S))
        return _Slice(hour, str(cursor), int(by_mask), found)

    def _hours(self, selection: Selection) -> list[int]:
        """Return the hours of the index, the newest first."""
        since, until = _ms(selection.since), _ms(selection.until)
        last = (until - 1) // HOUR_MS if until else "+inf"
        newest_first = partial(self._client.zrange, desc=True, byscore=True)
        found: Any = self._ask(newest_first, keys.IDS, last, since // HOUR_MS)
        return [int(hour) for hour in found]

    def has_index(self) -> bool:
        """Return whether the lists of SMSQ_INDEX have any message."""
        return bool(self._ask(self._client.exists, keys.IDS))

    def holders(self, key: str) -> set[str]:
        """Return the ids of the messages that hold a key, one for each kind of caller."""
        ends = self._ends(key)
        names = [keys.IDEMPOTENCY + space + end for end in ends for space in self._spaces]
        found: Any = self._ask(self._client.mget, names)
        return set(filter(None, found))

    def _ends(self, key: str) -> set[str]:
        return {cipher.idempotency(key, "", "")[0] for cipher in self._ciphers}

    def _conditions(self, selection: Selection) -> str:
        phone, key = selection.phone, selection.key
        return json.dumps(
            {
                "patterns": {
                    name: [_pattern(one) for one in given]
                    for name, given in selection.patterns.items()
                },
                "since": _ms(selection.since),
                "till": _ms(selection.until),
                "masked": mask_phone(phone) if phone else "",
                "digests": [one.phone_hash(phone) for one in self._ciphers] if phone else [],
                "keys": sorted(self._ends(key)) if key else [],
                "holders": sorted(self.holders(key)) if key else [],
            }
        )


class _Slice(NamedTuple):
    hour: int
    """0 of one of all."""
    cursor: str
    by_mask: int
    found: list[Any]


class _Row(NamedTuple):
    """A message that was found. Rows of a scan are in the order of their entry."""

    enqueued: int
    id: str
    hour: int
    place: int


class _Begin(NamedTuple):
    """Where a page begins: before a place in an hour's list, or before a time and an id."""

    first: int
    second: str


def _seconds(time: Any) -> float:
    """Read what TIME answers."""
    seconds, us = time
    return int(seconds) + int(us) / 1e6


def _rows(one: _Slice, begin: _Begin | None) -> list[_Row]:
    triples = zip(one.found[::3], one.found[1::3], one.found[2::3], strict=True)
    rows = [_Row(int(enqueued), name, one.hour, int(place)) for name, enqueued, place in triples]
    if one.hour or begin is None:
        return rows
    return [row for row in rows if (row.enqueued, row.id) < (begin.first, begin.second)]


def _cursor(row: _Row, *, scan: bool) -> str:
    return f"{row.enqueued}-{row.id}" if scan else f"{row.hour}.{row.place}"


def _begin(after: str, *, scan: bool) -> _Begin | None:
    """Read a cursor. Raises BadCursor."""
    if not after:
        return None
    first, sign, second = after.partition("-" if scan else ".")
    if not (first.isdecimal() and sign and (scan or second.isdecimal())):
        raise BadCursor(after)
    return _Begin(int(first), second)


def _value(name: str, value: Any) -> Any:
    if name == "reason" and value.startswith("duplicate:"):
        return "duplicate:*"  # Each names another message. As a pattern it finds them all.
    if name not in {"hour", "day"}:
        return value
    at = timestamps.at(int(value) * HOUR_MS).astimezone()
    return at if name == "hour" else at.replace(hour=0, minute=0)


def _ms(at: datetime | None) -> int:
    return timestamps.ms(at) if at else 0


def _pattern(words: str) -> str:
    """Return a pattern of Lua for words in which `*` stands for any characters."""
    magic = "^$()%.[]+-?"
    return "^" + "".join(f"%{c}" if c in magic else ".*" if c == "*" else c for c in words) + "$"
