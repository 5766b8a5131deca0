"""Dispatch callbacks, at least once. It knows no Celery.

A process that dies while it calls an endpoint leaves a lease behind, and the callback is repeated
under the same id. Once the endpoint has acknowledged, recording that is retried until it succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import tenacity

from smsq import tracing
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.callbacks.poster import Posted
from smsq_worker.domain.backoff import Backoff
from smsq_worker.ledger.callbacks import Callback, Callbacks, Result

Channel = Callable[[Callback], Posted]
"""Sends a callback to its endpoint once. Never raises."""

SETTLE_S: Final = 50.0
"""How long the ledger may be away after an endpoint was called."""
NO_CHANNEL: Final = Posted(done=False, detail="SMSQ_WEBHOOK_URL is not set here")
"""Another worker's settings have the channel, or had it."""


class Dispatcher:
    """Sends callbacks over the channel of their kind."""

    def __init__(
        self,
        callbacks: Callbacks,
        channels: Mapping[str, Channel],
        backoff: Backoff,
        *,
        give_up_s: float,
    ) -> None:
        self._callbacks = callbacks
        self._channels = channels
        self._backoff = backoff
        self._give_up_s = give_up_s

    def dispatch(self, name: str) -> str:
        """Send one callback; return in a word what became of it. Raises LedgerUnavailable."""
        callback = self._callbacks.take(name)
        if isinstance(callback, str):
            return callback
        reached("before notice")
        since_ns = time.time_ns()
        channel = self._channels.get(callback.kind)
        posted = channel(callback) if channel else NO_CHANNEL
        reached("after notice")
        result: Result = "told" if posted.done else "refused" if posted.gone else "failed"
        tracing.happened(
            callback.trace,
            "smsq tell",
            "CLIENT",
            since_ns,
            {
                "id": callback.outcome["id"],
                "state": callback.outcome["state"],
                "kind": callback.kind,
            },
            error="" if posted.done else result,
        )
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LedgerUnavailable),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5),
            stop=tenacity.stop_after_delay(SETTLE_S),
            reraise=True,
        )
        return retrying(
            self._callbacks.settle,
            name,
            result,
            error=posted.detail,
            wait_s=max(self._backoff.wait_s(callback.failures + 1), posted.retry_after_s),
            give_up_s=self._give_up_s,
        )
