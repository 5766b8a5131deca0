"""Throttle sources that guess: count the wrong secrets of each address, in memory."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache
from starlette.exceptions import HTTPException
from starlette.requests import Request

log = logging.getLogger(__name__)

WRONG_AT_MOST: Final = 20
WINDOW_S: Final = 60.0
MAX_SOURCES: Final = 10_000
IPV6_SITE: Final = 64
"""A customer owns all addresses of such a network."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class _Tally:
    ends_at: float
    wrong: int = 0


class SourceThrottle:
    """Refuses sources that sent too many wrong secrets within a window after the first.

    Used by the event loop only, so it needs no lock.
    """

    def __init__(self, kind: str, timer: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._timer = timer
        self._tallies: TTLCache[str, _Tally] = TTLCache(MAX_SOURCES, WINDOW_S, timer)

    def check(self, request: Request) -> None:
        """Raise HTTPException 429 for a source beyond its allowance."""
        tally = self._tallies.get(source_of(host_of(request)))
        if tally:
            self._refuse_beyond(tally)

    def count_wrong(self, request: Request) -> None:
        """Count a wrong secret. Raises HTTPException 429 where it exceeds the allowance."""
        name = source_of(host_of(request))
        tally = self._tallies.setdefault(name, _Tally(self._timer() + WINDOW_S))
        tally.wrong += 1
        if tally.wrong == WRONG_AT_MOST + 1:
            log.warning("%s has sent more than %d wrong %ss", name, WRONG_AT_MOST, self._kind)
        self._refuse_beyond(tally)

    def _refuse_beyond(self, tally: _Tally) -> None:
        if tally.wrong > WRONG_AT_MOST:
            msg = f"too many wrong {self._kind}s from this address"
            raise too_many(msg, tally.ends_at - self._timer())


def too_many(msg: str, wait_s: float) -> HTTPException:
    """Return the answer to a client that asks too often."""
    return HTTPException(429, msg, {"Retry-After": str(max(1, math.ceil(wait_s)))})


def host_of(request: Request) -> str:
    """Return the host that a request came from: what a trusted proxy wrote may be no address."""
    return request.client.host if request.client else ""


def address_of(host: str) -> Address | None:
    """Return an address; None for a host that is none."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_of_this_machine(request: Request) -> bool:
    """Return whether a request was made here, and did not come through a proxy that runs here."""
    found = address_of(host_of(request))
    is_forwarded = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "via"))
    return found is not None and found.is_loopback and not is_forwarded


def source_of(host: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 network of an IPv6 one."""
    found = address_of(host)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), IPV6_SITE), strict=False))
    return str(found or "no address")
