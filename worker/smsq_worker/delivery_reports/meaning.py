"""What a report's stat means to the ledger. Also `smsq.testing` reads it, where no extra may be."""

from __future__ import annotations

from smsq_worker.domain.code_spelling import as_written
from smsq_worker.domain.codes import Catalogue, CodeClass, Scope
from smsq_worker.domain.reports import Report


def report_of(catalogue: Catalogue, stat: str) -> Report:
    """Return what a stat means, as the gateway wrote it."""
    code = catalogue.classify(stat)
    entry, raw = catalogue.entry(stat), as_written(stat)
    return Report(
        stat=code.stat,
        code_class=code.code_class,
        wait_ms=code.retry_after_s * 1000,
        maybe_sent=code.may_have_been_sent,
        pause=code.pause,
        suppress_ms=code.suppress_s * 1000,
        hold_ms=code.retry_after_s * 1000 if code.scope is Scope.FREQUENCY else 0,
        slow_down=code.slow_down,
        suppress_lanes=code.suppress_lanes,
        scope=code.scope or "",
        raw="" if raw == code.stat else raw,
        unlisted=entry != code.stat and code.code_class is CodeClass.UNKNOWN,
        # Anyone who knows the URL can invent stats; they must not fill the counters. So a code
        # without its own entry counts under its wildcard's name.
        counted_as=f"reports:{entry or 'other'}:{code.code_class}",
    )
