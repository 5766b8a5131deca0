"""Who asks: by the secret in `Authorization`, and not from a source that guesses."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException, Request

from smsq_worker.api.clients import Caller, Callers
from smsq_worker.api.throttle import Sources

UNKNOWN: Final = "Authorization must be the value of SMSQ_RELAY_SECRET, or a caller's secret"


class Access:
    """Tells callers apart."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._sources = Sources("secret")

    def caller(self, request: Request) -> Caller:
        """Give the caller. Raises HTTPException 401, or 429 whatever the secret is."""
        self._sources.check(request)
        secret = request.headers.get("authorization", "")
        caller = self._callers.find(secret)
        if caller is None:
            if secret:
                self._sources.wrong(request)
            raise HTTPException(401, UNKNOWN)
        return caller
