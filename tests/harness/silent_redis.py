"""A Redis that accepts connections, and does not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.faulty_line import Line, freezing

WITHIN_S = 0.5
SOON_S = 15.0


@contextmanager
def frozen() -> Iterator[str]:
    with freezing() as server:
        server.freeze()
        yield server.url


@contextmanager
def silent() -> Iterator[str]:
    with Line() as line:
        yield line.url


@contextmanager
def dribbling() -> Iterator[str]:
    with Line() as line:
        line.dribble()
        yield line.url


Silent = Callable[[], Any]


def hurried(environ: dict[str, str], url: str, **more: str) -> dict[str, str]:
    return environ | {"SMSQ_REDIS_URL": url, "SMSQ_ENQUEUE_TIMEOUT_S": str(WITHIN_S)} | more
