"""Looking names up, and connecting, in bounded time.

The system's resolver has no deadline: with a dead name server in resolv.conf an answer takes 5 to
30 s. So it runs in separate threads, and callers wait as long as they like. An answer that comes
too late for all of them is kept for the next caller; otherwise a slow resolver would be useless.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, Final

THREADS: Final = 4
"""At most, for each name: some may hang forever."""
STUCK_S: Final = 30.0
"""Then a second lookup of the name begins, beside the one that has no answer yet."""
KEEP_S: Final = 60.0
"""How long an answer is kept that came too late."""
MAX_ADDRESSES: Final = 8
"""Of a name, that are tried: each has a share of the time."""

Place = tuple[Any, ...]
"""An address as socket.getaddrinfo returns it."""


class ResolverTooSlow(TimeoutError):  # noqa: N818
    """The system's resolver has not answered in time."""


class NameResolutionError(OSError):
    """The system's resolver knows no address of a name, or failed."""


class _Lookup:
    def __init__(self) -> None:
        self.since = time.monotonic()
        """When it began; once it is answered, when that was."""
        self.answer: Future[list[Place]] = Future()
        self.was_used = False

    def serves(self) -> bool:
        """Return whether a caller may wait for it, or have its answer."""
        age_s = time.monotonic() - self.since
        if not self.answer.done():
            return age_s < STUCK_S
        return not self.was_used and self.answer.exception() is None and age_s < KEEP_S


class Resolver:
    """The system's resolver, with a deadline. Threads share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._latest: dict[str, _Lookup] = {}
        self._threads: Counter[str] = Counter()

    def look_up(self, host: str, timeout_s: float) -> list[Place]:
        """Return a host's addresses, with port 0. Hosts must be of a bounded set.

        Raises ResolverTooSlow, NameResolutionError, and ValueError for an impossible name.
        """
        lookup = self._lookup(host)
        try:
            places = lookup.answer.result(timeout_s)
        except TimeoutError:
            raise ResolverTooSlow from None
        except OSError as error:
            raise NameResolutionError from error
        lookup.was_used = True
        return places

    def _lookup(self, host: str) -> _Lookup:
        with self._lock:
            latest = self._latest.get(host)
            if latest and (latest.serves() or self._threads[host] >= THREADS):
                return latest
            lookup = _Lookup()
            Thread(target=self._run, args=(host, lookup), name="smsq-lookup", daemon=True).start()
            self._latest[host] = lookup
            self._threads[host] += 1
            return lookup

    def _run(self, host: str, lookup: _Lookup) -> None:
        try:
            answer = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 - raised to the callers that wait
            lookup.answer.set_exception(error)
        else:
            lookup.since = time.monotonic()
            lookup.answer.set_result(answer)
        with self._lock:
            self._threads[host] -= 1
            # A second lookup may have begun before this one was answered.
            if lookup.answer.exception() is None and not self._latest[host].answer.done():
                self._latest[host] = lookup


RESOLVER: Final = Resolver()


def connect(
    places: Sequence[Place], port: int, end: float, options: Sequence[tuple[Any, ...]]
) -> socket.socket:
    """Connect to the first address that accepts by `end`, a time.monotonic(). Raises OSError.

    Each has an equal share of the time that is left.
    """
    failed = OSError("no address")
    tried = places[:MAX_ADDRESSES]
    for n, (family, kind, protocol, _, address) in enumerate(tried):
        share_s = (end - time.monotonic()) / (len(tried) - n)
        if share_s <= 0:
            raise TimeoutError("no time is left to connect")
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # This machine may be without IPv6.
            failed = error
            continue
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(share_s)
            sock.connect((address[0], port, *address[2:]))
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed
