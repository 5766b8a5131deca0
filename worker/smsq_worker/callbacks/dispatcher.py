"""Dispatch callbacks, at least once. It knows no Celery.

A process that dies while it calls an endpoint leaves a lease behind, and the callback is repeated
under the same id. Once the endpoint has acknowledged, recording that is retried until it succeeds.

Callers of the relay are strangers to each other: one whose endpoints hang, each under a URL of its
own, leaves half of the dispatches of a process to the others.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from threading import Lock
from typing import Final

import tenacity

from smsq import tracing
from smsq.errors import LedgerUnavailable
from smsq.failpoints import reached
from smsq_worker.callbacks.poster import Posted, unsendable
from smsq_worker.domain.backoff import Backoff
from smsq_worker.infra.http import name_of
from smsq_worker.ledger.callbacks import Callback, Callbacks, Result

log = logging.getLogger(__name__)

Channel = Callable[[Callback], Posted]
"""Sends a callback to its endpoint once. What it raises is no fault of the endpoint's."""

SETTLE_S: Final = 50.0
"""How long the ledger may be away after an endpoint was called."""
CROWDED_S: Final = 1.0
"""When a callback is tried again for which there was no room."""
NO_CHANNEL: Final = Posted(done=False, detail="SMSQ_WEBHOOK_URL is not set here", why="hindered")
"""Another worker's settings have the channel, or had it."""

CROWDED: Final = Posted(done=False, detail="its caller's other callbacks take long")
MANY: Final = 1_000_000


@dataclass(eq=False, repr=False)
class Dispatcher:
    """Sends callbacks over the channel of their kind."""

    callbacks: Callbacks
    channels: Mapping[str, Channel]
    backoff: Backoff
    _: KW_ONLY
    give_up_s: float
    room: Callable[[], int] = lambda: MANY
    """How many may be dispatched at once."""

    def __post_init__(self) -> None:
        self._lock = Lock()
        self._of_callers: Counter[str] = Counter()

    def dispatch(self, name: str) -> str:
        """Send one callback; return in a word what became of it. Raises LedgerUnavailable."""
        callback = self.callbacks.take(name)
        if isinstance(callback, str):
            return callback
        reached("before notice")
        since_ns = time.time_ns()
        with self._share(callback) as has_room:
            posted = self._post(callback) if has_room else CROWDED
        reached("after notice")
        result, wait_s = self._judged(callback, posted)
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
            self.callbacks.settle,
            name,
            result,
            error=posted.detail,
            wait_s=wait_s,
            give_up_s=self.give_up_s,
        )

    @contextmanager
    def _share(self, callback: Callback) -> Iterator[bool]:
        """Count a return URL's dispatch while the block runs; yield whether its caller may."""
        if callback.kind != "returnurl":
            yield True
            return
        with self._lock:
            has_room = self._of_callers[callback.caller] < max(1, self.room() // 2)
            self._of_callers[callback.caller] += has_room
        try:
            yield has_room
        finally:
            with self._lock:
                self._of_callers[callback.caller] -= has_room
                self._of_callers += Counter()  # forgets those that have none

    def _post(self, callback: Callback) -> Posted:
        channel = self.channels.get(callback.kind)
        if channel is None:
            return NO_CHANNEL
        try:
            return channel(callback)
        except UnicodeError as error:
            return unsendable(error)
        except Exception as error:  # noqa: BLE001 - without a result it would be repeated for ever
            # Only the type: the text may hold the URL.
            log.warning("callback %s failed by a bug: %s", callback.name, name_of(error))
            return Posted(done=False, detail=name_of(error), why="hindered")

    def _judged(self, callback: Callback, posted: Posted) -> tuple[Result, float]:
        """Return the result to record, and the wait before the next try."""
        if posted is CROWDED:
            return "crowded", CROWDED_S
        if posted.done:
            return "told", 0
        if posted.gone or posted.why == "unsendable":
            return "refused", 0
        failures = callback.tries if posted.why == "hindered" else callback.failures + 1
        return posted.why, max(self.backoff.wait_s(failures), posted.retry_after_s)
