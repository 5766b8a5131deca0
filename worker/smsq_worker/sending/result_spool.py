"""Results of attempts that the ledger could not take: kept on the disk until it can.

The result of an attempt is known once and to one process alone. While Redis is away it goes to a
local file, and from there to the ledger when Redis is back, at the next start of a worker on this
machine at the latest. The ledger takes it late: the attempt's number is its fencing token.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import tenacity

from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.logs import about
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import AttemptResult, Ledger
from smsq_worker.ledger.errors import LedgerFault

log = logging.getLogger(__name__)

FIELDS: Final = {"attempt": int, "outcome": str, "detail": str, "mid": str, "wait_s": int | float}
"""What each entry of the spool holds beside `id`, whichever release wrote it."""
OF_ACCOUNTS: Final = ("account", "scope")
"""What it holds beside them where there are several accounts. A release that does not know them may
not record it: see ledger/accounts.py."""


class ResultSpool:
    """Keeps results, and records them later. Threads share it."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool
        self.waits_for_disk = False
        """Neither Redis nor the disk takes a result. A restart would lose it."""

    def keep(self, results: Sequence[AttemptResult], why: LedgerUnavailable) -> list[State | None]:
        """Keep results; return the states that follow, None where it is not known yet."""
        return [self._keep(result, why) for result in results]

    def replay(self) -> None:
        """Record what the spool holds.

        Raises LedgerUnavailable and OSError; nothing is lost by either.
        """
        replayed = self._spool.replay(self._record_entry)
        if replayed.applied:
            log.warning("%d results of attempts came from the spool", replayed.applied)
        if replayed.set_aside:
            self._ledger.count_set_aside("result", replayed.set_aside)

    def _keep(self, result: AttemptResult, why: LedgerUnavailable) -> State | None:
        try:
            self._spool.append(_as_entry(result))
        except OSError as error:
            log.critical("the spool cannot be written, so this result waits here: %s", error)
            self.waits_for_disk = True
            try:
                return self._keep_until_taken(result)
            finally:
                self.waits_for_disk = False
        log.warning(
            "%s attempt %d is in the spool: %s",
            result.message_id,
            result.attempt,
            why,
            extra=about(
                id=result.message_id,
                attempt=result.attempt,
                mid=result.mid,
                outcome=result.outcome,
            ),
        )
        return None

    def _keep_until_taken(self, result: AttemptResult) -> State | None:
        """Wait for Redis or the disk, whichever is back first."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(OSError), wait=tenacity.wait_exponential(max=5)
        )
        return retrying(self._record_or_append, _as_entry(result))

    def _record_or_append(self, entry: dict[str, Any]) -> State | None:
        """Record an entry now, or write it to the disk. Raises OSError."""
        try:
            (state,) = self._ledger.record_many([_from_entry(entry)])
        except LedgerUnavailable:
            self._spool.append(entry)
            return None
        return state

    def _record_entry(self, entry: dict[str, Any]) -> None:
        """Record an entry. Raises LedgerUnavailable, or anything else if the entry is invalid."""
        try:
            self._ledger.record_many([_from_entry(entry)])
        except LedgerFault as fault:
            raise ValueError from fault  # This entry's fault, which is no reason to wait.


def _as_entry(result: AttemptResult) -> dict[str, Any]:
    """Return the spool's entry, without `trouble` and `too_fast`, which will be outdated."""
    names = (*FIELDS, "begun", *(name for name in OF_ACCOUNTS if getattr(result, name)))
    return {"id": result.message_id} | {name: getattr(result, name) for name in names}


def _from_entry(entry: dict[str, Any]) -> AttemptResult:
    """Return the result in an entry, of this release or an older one. Raises for anything else."""
    kinds = {"id": str} | FIELDS
    if any(not isinstance(entry[name], kind) for name, kind in kinds.items()):
        raise TypeError
    values = {name: entry[name] for name in FIELDS}
    values["outcome"] = Outcome(entry["outcome"])
    values |= {name: str(entry.get(name, "")) for name in OF_ACCOUNTS}
    # Release 0.1.0 wrote no `begun`.
    return AttemptResult(entry["id"], **values, begun=entry.get("begun", 0))
