"""Apply delivery reports to their messages. It knows no Celery."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeGuard

from smsq import tracing
from smsq.failpoints import reached
from smsq_worker.delivery_reports.coalescer import MidAndStat
from smsq_worker.delivery_reports.inbox import BATCH
from smsq_worker.delivery_reports.meaning import report_of
from smsq_worker.delivery_reports.together import Together
from smsq_worker.domain.accounts import NAME, unqualified
from smsq_worker.domain.codes import NO_CODES, Catalogue
from smsq_worker.domain.testnumbers import MID_PREFIX
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Ledger

log = logging.getLogger(__name__)

MAX_TEXT: Final = 255
LEFT_FOR_S: Final = 3600.0
"""Much longer than it takes to restart all workers with another file."""
APART_S: Final = 0.01
"""So far apart a worker's acts begin. A lone report costs Redis as much as three among many do, and
nobody notices how late this makes one that comes right behind another."""
MAX_TOLD: Final = 20
"""How many accounts are named in the log: anybody can write to a queue."""


class Reconciler:
    """Reconciles reports with messages."""

    def __init__(self, ledger: Ledger, catalogues: Mapping[str, Catalogue]) -> None:
        """`catalogues` are by the keys of accounts; the first is that of test numbers, too."""
        self._report = Together(ledger.report_many, at_most=BATCH, apart_s=APART_S)
        self._of_tests = next(iter(catalogues.values()))
        self._catalogues = catalogues
        self._told = set[str]()
        self._leaves_until = time.monotonic() + LEFT_FOR_S

    def reconcile(self, reports: Iterable[MidAndStat]) -> str:
        """Apply reports (mid, stat); return how many of their messages are now in which state.

        "parked" are those whose mid is not known yet. Reports come early, twice and out of order;
        the ledger moves a message only forward. "left" are those of an account that is not known
        here, whose codes could mean anything: they stay in the inbox, and come again. Nobody knows
        it where that is still so an hour after the start; then they are noted, and change nothing.
        """
        reached("before report")
        given = [*reports] if isinstance(reports, Iterable) else [reports]
        valid = [report for report in given if _is_report(report)]
        if len(valid) < len(given):
            log.warning(
                "%d of %d reports were dropped: they are none", len(given) - len(valid), len(given)
            )
        states: Counter[str] = Counter()
        for start in range(0, len(valid), BATCH):
            states.update(self._apply(valid[start : start + BATCH]))
        return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))

    def _apply(self, reports: Sequence[MidAndStat]) -> Iterator[str]:
        found = [(mid, stat, self._catalogue(mid)) for mid, stat in reports]
        classified = [(mid, stat, report_of(of, stat)) for mid, stat, of in found if of]
        yield from ["left"] * (len(found) - len(classified))
        if not classified:
            return
        since_ns = time.time_ns()
        results = self._report(classified)
        reached("after report")
        for (mid, _, report), (state, message_id, trace) in zip(classified, results, strict=True):
            # A mid that belongs to no message may be any text, so it is not logged.
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

    def _catalogue(self, mid: str) -> Catalogue | None:
        if mid.startswith(MID_PREFIX):
            return self._of_tests
        account = unqualified(mid)[1]
        found = self._catalogues.get(account)
        if found is None and time.monotonic() >= self._leaves_until:
            return NO_CODES
        if found is None and account not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(account)
            log.warning(
                "reports of %s wait: this worker's SMSQ_ACCOUNTS_FILE has no such account",
                _shown(account),
            )
        return found


def _shown(account: str) -> str:
    if not account:
        return "the account that was the only one"
    return account if NAME.fullmatch(account) else "an account that cannot be one"


def _is_report(value: object) -> TypeGuard[MidAndStat]:
    """Return whether a value is (mid, stat): anybody can write to a queue."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_text, value))  # noqa: PLR2004


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
