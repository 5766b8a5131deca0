"""Requests under way: how many of one source, and how many in all, so that reports find room."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from smsq_worker.api.report_addresses import REPORTER
from smsq_worker.api.routes import answer
from smsq_worker.api.throttle import source_of


@dataclass(frozen=True, slots=True)
class Share:
    """How many requests may be under way at a time, reports apart."""

    requests: int = 600
    """Of the 2000 connections; the others stay for reports with the right token."""
    of_source: int = 200


class Room:
    """Answers 503 where a source, or all together, ask too much at a time; reports always pass.

    A source is the client that a trusted proxy names, or else the peer.
    """

    def __init__(self, app: ASGIApp, share: Share) -> None:
        self._app = app
        self._share = share
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope[REPORTER]:
            await self._app(scope, receive, send)
            return
        client: Any = scope.get("client")
        source = source_of(client[0] if client else "")
        of_source, of_all = self._under_way[source], self._under_way.total()
        if of_source >= self._share.of_source or of_all >= self._share.requests:
            full = answer(503, "too many requests at a time", {"Retry-After": "1"})
            await full(scope, receive, send)
            return
        self._under_way[source] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[source] -= 1
            if not self._under_way[source]:
                del self._under_way[source]
