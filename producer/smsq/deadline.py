"""One deadline for all that a call waits for: each connect, handshake, write, read, retry, WAIT.

A socket's timeout begins anew with each byte, and a client's with each retry, so a server that
dribbles, or is silent, would keep a caller for a minute. Nothing here needs a thread. A lookup of
a name cannot be ended without one, so it alone may take longer.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar, Token
from typing import Final

import redis

_ends_at: Final[ContextVar[float]] = ContextVar("smsq_deadline", default=math.inf)
"""By time.monotonic(). A thread that is given its caller's context has its deadline too."""


class DeadlineExceeded(redis.RedisError):
    """The deadline is over. Not a redis.TimeoutError: redis-py and kombu would try again."""

    def __init__(self) -> None:
        super().__init__("no answer in time")


class within:  # noqa: N801 - it is used as a function
    """A block that bounds the time of all Redis commands in it; an earlier deadline stands.

    contextlib's costs three times as much, for each message.
    """

    __slots__ = ("_seconds", "_token")
    _token: Token[float]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._token = _ends_at.set(min(_ends_at.get(), time.monotonic() + self._seconds))

    def __exit__(self, *_: object) -> None:
        _ends_at.reset(self._token)


def left_s() -> float:
    """Return the seconds that are left, infinite where there is no deadline."""
    return _ends_at.get() - time.monotonic()
