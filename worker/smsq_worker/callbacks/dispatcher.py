"""Telling outcomes, at least once. It knows no Celery.

Who dies while it asks a receiver leaves a lease behind, and the outcome is told again: a receiver
can know it by its id. After a receiver's yes the ledger is told so until it hears it.
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
"""Asks a receiver once to take an outcome. Never raises."""

SETTLE_S: Final = 50.0
"""So long the ledger may be away after a receiver was asked."""


class Dispatcher:
    """Tells outcomes to those who want them."""

    def __init__(
        self,
        notices: Callbacks,
        channels: Mapping[str, Channel],
        backoff: Backoff,
        *,
        give_up_s: float,
    ) -> None:
        self._notices = notices
        self._tellers = channels
        self._backoff = backoff
        self._give_up_s = give_up_s

    def notify(self, name: str) -> str:
        """Tell one; say in a word what came of it. Raises LedgerUnavailable."""
        notice = self._notices.take(name)
        if isinstance(notice, str):
            return notice
        reached("before notice")
        since_ns = time.time_ns()
        posted = self._ask(notice)
        reached("after notice")
        result: Result = "told" if posted.done else "refused" if posted.gone else "failed"
        tracing.happened(
            notice.trace,
            "smsq tell",
            "CLIENT",
            since_ns,
            {"id": notice.outcome["id"], "state": notice.outcome["state"], "kind": notice.kind},
            error="" if posted.done else result,
        )
        wait_s = max(self._backoff.wait_s(notice.failures + 1), posted.retry_after_s)
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(LedgerUnavailable),
            wait=tenacity.wait_exponential(multiplier=0.1, max=5),
            stop=tenacity.stop_after_delay(SETTLE_S),
            reraise=True,
        ):
            with attempt:
                return self._notices.settle(
                    name, result, error=posted.detail, wait_s=wait_s, give_up_s=self._give_up_s
                )
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _ask(self, notice: Callback) -> Posted:
        teller = self._tellers.get(notice.kind)
        if teller is None:
            # Another worker's settings name it, or did.
            return Posted(done=False, detail="SMSQ_WEBHOOK_URL is not set here")
        return teller(notice)
