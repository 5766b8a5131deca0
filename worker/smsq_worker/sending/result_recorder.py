"""Writing down what calls came to, against all odds. It knows no Celery.

The answer to a call is known once and to one process alone. While Redis is away it goes to a
local file, and from there to the ledger when Redis is back, at the next start of a worker on this
machine at the latest. The ledger takes it late: the attempt's number is its fence.
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

KINDS: Final = {
    "id": str,
    "attempt": int,
    "outcome": str,
    "detail": str,
    "mid": str,
    "wait_s": int | float,
}
"""What each entry of the spool holds, whatever release wrote it."""


class ResultRecorder:
    """Records calls in the ledger, or on the disk until the ledger can be reached."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self._ledger = ledger
        self._spool = spool

    def record(self, calls: Sequence[AttemptResult]) -> list[State | None]:
        """Write down calls; give the states that follow, None where it is not known yet."""
        try:
            return self._ledger.record_many(calls)
        except LedgerUnavailable as error:
            return [self._keep(call, error) for call in calls]

    def replay(self) -> None:
        """Write down what the spool holds.

        Raises LedgerUnavailable and OSError; nothing is lost by either.
        """
        replayed = self._spool.replay(self._write_spooled)
        if replayed.applied:
            log.warning("%d results of calls came from the spool", replayed.applied)
        if replayed.set_aside:
            self._ledger.count_set_aside("result", replayed.set_aside)

    def _keep(self, call: AttemptResult, why: LedgerUnavailable) -> State | None:
        # What it says of the gateway as it is now will be old by then, and is left out.
        names = ("attempt", "outcome", "detail", "mid", "wait_s", "begun")
        entry = {"id": call.message_id} | {name: getattr(call, name) for name in names}
        try:
            self._spool.append(entry)
        except OSError as error:
            log.critical("the spool cannot be written, so this result waits here: %s", error)
            return self._keep_until_taken(entry)
        log.warning(
            "%s attempt %d is in the spool: %s",
            call.message_id,
            call.attempt,
            why,
            extra=about(
                id=call.message_id, attempt=call.attempt, mid=call.mid, outcome=call.outcome
            ),
        )
        return None

    def _write_spooled(self, entry: dict[str, Any]) -> None:
        """Write down an entry. Raises LedgerUnavailable, and anything else where it is none."""
        if any(not isinstance(entry[name], kind) for name, kind in KINDS.items()):
            raise TypeError
        try:
            self._write(entry)
        except LedgerFault as fault:
            raise ValueError from fault  # It is this entry's, which is no reason to wait.

    def _write(self, entry: dict[str, Any]) -> State | None:
        return self._ledger.record(
            entry["id"],
            entry["attempt"],
            Outcome(entry["outcome"]),
            detail=entry["detail"],
            mid=entry["mid"],
            wait_s=entry["wait_s"],
            begun=entry.get("begun", 0),  # An earlier version's has none.
        )

    def _keep_until_taken(self, entry: dict[str, Any]) -> State | None:
        """Wait for whatever is back first, Redis or the disk."""
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(OSError), wait=tenacity.wait_exponential(max=5)
        ):
            with attempt:
                try:
                    return self._write(entry)
                except LedgerUnavailable:
                    self._spool.append(entry)
        return None
