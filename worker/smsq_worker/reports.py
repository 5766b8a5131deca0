"""A delivery report's way to its message. It knows no Celery."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from smsq.killpoint import reached
from smsq_worker.codes import Catalogue, Scope
from smsq_worker.ledger import Ledger, Report

log = logging.getLogger(__name__)


class Reports:
    """Reconciles reports with messages."""

    def __init__(self, ledger: Ledger, catalogue: Catalogue) -> None:
        self._ledger = ledger
        self._catalogue = catalogue

    def reconcile(self, reports: Iterable[tuple[str, str]]) -> str:
        """Apply reports (mid, stat); tell how many of their messages are now in which state.

        "parked" are those whose mid is not known yet. Reports come early, twice and out of order;
        the ledger moves a message only forward.
        """
        reached("before report")
        meant = [(mid, stat, self._meaning(stat)) for mid, stat in reports]
        answers = self._ledger.report_many(meant)
        reached("after report")
        for (_, _, report), (state, message_id) in zip(meant, answers, strict=True):
            log.info("report %s for %s: %s", report.stat, message_id or "an unknown mid", state)
        states = Counter(state for state, _ in answers)
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

    def _meaning(self, stat: str) -> Report:
        code = self._catalogue.classify(stat)
        listed = self._catalogue.get(stat) is not None
        return Report(
            stat=code.stat,
            code_class=code.code_class,
            wait_ms=code.retry_after_s * 1000,
            maybe_sent=code.may_have_been_sent,
            pause=code.pause,
            suppress_ms=code.suppress_s * 1000,
            hold_ms=code.retry_after_s * 1000 if code.scope is Scope.FREQUENCY else 0,
            slow_down=code.slow_down,
            # Anyone who knows the address can invent stats; they must not fill the counters.
            counted_as=f"reports:{code.stat if listed else 'other'}:{code.code_class}",
        )
