"""The connections that are open, by the peer at their other end.

A connection without a request under way costs its client nothing, so it never keeps another out:
the oldest one gives way, of the peer itself where that has its share, and of the peer with the most
where all places are taken. Whoever holds few connections is always let in. A stranger that
asks faster than a hundred times a second is read from more slowly, and leaves time for the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from smsq_worker.api.throttle import address_of, source_of
from smsq_worker.config.parsers import Network

_Peer = tuple[bool, str]
"""Whether it is a trusted proxy, and its name."""


class Connection(Protocol):
    """What the crowd knows of a connection."""

    idle_since: float

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""

    def give_way(self) -> None:
        """End at once."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be."""

    connections: int = 2000
    of_peer: int = 200
    """Of one peer that is no trusted proxy, those with a request under way apart."""
    grace_s: float = 5.0
    """How long one beyond that share is kept idle: a client that is closed comes back at once."""
    per_s: float = 100.0
    at_once: int = 200
    """Requests of one peer that wait for nothing, those with the right token or secret apart."""


class Crowd:
    """All connections of one API process. Used by the event loop only, so it needs no lock."""

    def __init__(
        self,
        bounds: Bounds,
        trusted_proxies: Sequence[Network],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timer = timer
        self._paid_until: dict[_Peer, float] = {}
        self._bounds = bounds
        self._trusted_proxies = trusted_proxies
        self._peers: dict[_Peer, set[Connection]] = {}
        self._of: dict[Connection, _Peer] = {}

    def enter(self, connection: Connection, host: str) -> bool:
        """Take a connection in; return False where no other can give way."""
        address = address_of(host)
        is_trusted = address is not None and any(address in one for one in self._trusted_proxies)
        peer = is_trusted, source_of(host)
        own = self._peers.get(peer, set())
        if len(own) >= self._bounds.of_peer and not is_trusted:
            self._oust_one_of(own, before=self._timer() - self._bounds.grace_s)
        is_full = len(self._of) >= self._bounds.connections
        if is_full and not any(map(self._oust_one_of, self._greediest_first())):
            return False
        self._peers.setdefault(peer, set()).add(connection)
        self._of[connection] = peer
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        peer = self._of.pop(connection, None)
        if peer is not None:
            self._peers[peer].remove(connection)
            if not self._peers[peer]:
                del self._peers[peer]
                self._paid_until.pop(peer, None)

    def wait_s(self, connection: Connection) -> float:
        """Count a request of a connection; return how long its peer's next one must wait."""
        peer = self._of.get(connection)
        if peer is None or peer[0]:
            return 0.0
        now = self._timer()
        until = max(self._paid_until.get(peer, now), now) + 1 / self._bounds.per_s
        self._paid_until[peer] = until
        return max(0.0, until - now - self._bounds.at_once / self._bounds.per_s)

    def _greediest_first(self) -> list[set[Connection]]:
        """Return the connections of each peer; those of trusted proxies last."""
        ranked = sorted(self._peers, key=lambda peer: (peer[0], -len(self._peers[peer])))
        return [self._peers[peer] for peer in ranked]

    def _oust_one_of(self, own: set[Connection], before: float = math.inf) -> bool:
        idle = (one for one in own if not one.is_busy and one.idle_since <= before)
        oldest = min(idle, key=lambda one: one.idle_since, default=None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.give_way()
        return True
