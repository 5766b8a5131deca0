"""Who sends a request: by the secret in `Authorization`, and not from a source that guesses."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from smsq_worker.api.clients import Caller, Callers
from smsq_worker.api.throttle import SourceThrottle

UNKNOWN: Final = "Authorization must be the value of SMSQ_RELAY_SECRET, or a caller's secret"
KNOWN: Final = "smsq.known"
"""What a scope has where the secret was right."""


class Authenticator:
    """Finds the caller of a request."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._throttle = SourceThrottle("secret")

    def caller(self, request: Request) -> Caller:
        """Return the caller. Raises HTTPException 401, or 429 whatever the secret is."""
        self._throttle.check(request)
        secret = request.headers.get("authorization", "")
        caller = self._callers.find(secret)
        if caller is None:
            if secret:
                self._throttle.count_wrong(request)
            raise HTTPException(401, UNKNOWN)
        request.scope[KNOWN] = True
        return caller
