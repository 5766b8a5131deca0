"""What a worker's settings say, as a memory ledger needs it: by default what theirs do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from smsq.contract import KEY_TTL_S, Lane

AT_MOST: Final = 100_000
"""How many messages a memory ledger holds, and how many numbers, keys and mids."""

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """A dict of so many; what was set last is the youngest, and the oldest goes."""

    def __init__(self, at_most: int) -> None:
        super().__init__()
        self._at_most = at_most

    def __setitem__(self, name: K, value: V) -> None:
        self.pop(name, None)
        super().__setitem__(name, value)
        if len(self) > self._at_most:
            del self[next(iter(self))]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Times are in seconds."""

    phone_limits: tuple[tuple[int, int], ...] = ((1, 60), (5, 3600), (10, 86_400))
    """As in SMSQ_PHONE_LIMITS: at most this many otps to one number in this many seconds."""
    max_resends: int = 2
    lease_s: float = 60.0
    report_wait_s: int = 3 * 86_400
    retention_s: int = 604_800
    key_ttl_s: int = KEY_TTL_S
    """How long an idempotency key is kept: with SMSQ_REDO_S as long as that, if that is longer."""
    at_most: int = AT_MOST


class Clock:
    """The machine's time, which a test may put forward."""

    def __init__(self) -> None:
        self._ahead_ms = self._set_to = 0

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return self._set_to or int(time.time() * 1000) + self._ahead_ms

    @contextmanager
    def at(self, ms: int) -> Iterator[None]:
        """Set another time while the block runs, to make up for what was due before."""
        self._set_to = ms
        try:
            yield
        finally:
            self._set_to = 0

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self._ahead_ms += round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a delivery report means, as a worker's Report has it."""

    stat: str
    code_class: str
    wait_ms: int = 0
    maybe_sent: bool = False
    pause: str = ""
    suppress_ms: int = 0
    hold_ms: int = 0
    suppress_lanes: tuple[Lane, ...] = ()
    raw: str = ""


DELIVRD: Final = Meaning("DELIVRD", "delivered")
