"""A delivery report's way to its message. It knows no Celery."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeGuard

from smsq import tracing
from smsq.failpoints import reached
from smsq_worker.domain.codes import Catalogue, Scope
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Ledger, Report

log = logging.getLogger(__name__)

AT_ONCE: Final = 50
"""So many reports are one act of the ledger, for which others wait."""
MAX_TEXT: Final = 255
_INVENTED: Final = re.compile(r"MO:[0-9]{5,}")
"""The catalogue takes MO: with any number; the vendor's have four digits."""


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
        told = [*reports] if isinstance(reports, Iterable) else [reports]
        good = [one for one in told if _is_report(one)]
        if len(good) < len(told):
            log.warning(
                "%d of %d reports were dropped: they are none", len(told) - len(good), len(told)
            )
        states: Counter[str] = Counter()
        for start in range(0, len(good), AT_ONCE):
            states.update(self._apply(good[start : start + AT_ONCE]))
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

    def _apply(self, reports: Sequence[tuple[str, str]]) -> Iterator[str]:
        meant = [(mid, stat, self._meaning(stat)) for mid, stat in reports]
        since_ns = time.time_ns()
        answers = self._ledger.report_many(meant)
        reached("after report")
        for (mid, _, report), (state, message_id, trace) in zip(meant, answers, strict=True):
            # A mid that nobody gave out may be any text.
            own_mid = mid if message_id else None
            known = {"id": message_id, "mid": own_mid, "stat": report.stat, "state": state}
            log.info(
                "report %s for %s: %s",
                report.stat,
                message_id or "an unknown mid",
                state,
                extra=about(**known),
            )
            known["class"] = report.code_class
            tracing.happened(trace, "smsq report", "CONSUMER", since_ns, known)
            yield state

    def _meaning(self, stat: str) -> Report:
        code = self._catalogue.classify(stat)
        listed = self._catalogue.get(stat) is not None and not _INVENTED.match(code.stat)
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


def _is_report(one: object) -> TypeGuard[tuple[str, str]]:
    """Return whether it is (mid, stat): anybody can write to a queue."""
    return isinstance(one, list | tuple) and len(one) == 2 and all(map(_is_text, one))  # noqa: PLR2004


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
