"""Notice that the gateway refuses the calls of this worker alone, as where its secret is wrong.

Refusals in a row pause the account for all, see breaker.lua. They never come to that while calls of
others are accepted in between, and this worker would fail its share of the messages one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, TypeVar

from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.domain.codes import Scope
from smsq_worker.domain.states import Outcome
from smsq_worker.ledger import AttemptResult, Ledger
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.vendors.vendor import GatewayResult

log = logging.getLogger(__name__)

IN_A_ROW: Final = 20
"""As many pause the account, see breaker.lua."""
_OF_THE_MESSAGE: Final = {Scope.RECIPIENT, Scope.CONTENT, Scope.FREQUENCY}
_LOCAL: Final = "local:"
_Result = TypeVar("_Result", GatewayResult, AttemptResult)


class OwnRefusals:
    """Counts this worker's refusals in a row.

    While it alone is refused, it takes one message each `probe_s` to see whether that is over, and
    refusals say nothing of their messages: others send them. Where it has several accounts nothing
    is counted, as those send what one refuses.
    """

    def __init__(
        self, ledger: Ledger, gate: ConsumerGate, probe_s: float, *, has_several: bool = False
    ) -> None:
        self.is_refused = False
        self._counts = not has_several
        self._ledger, self._gate, self._probe_s = ledger, gate, probe_s
        self._count = self._since = 0

    def excused(self, result: GatewayResult) -> GatewayResult:
        """Return what is to be recorded of a result."""
        if not self.is_refused or not _is_unclear(result):
            return result
        why = f"refused by the gateway to this worker alone: {result.detail}"
        return GatewayResult(Outcome.NOT_SENT, why, scope="worker")

    def probes(self) -> None:
        """Note that a message was admitted: while this worker is refused, one is enough."""
        if self.is_refused:
            self._gate.rest(self._probe_s)

    def note(self, results: Sequence[AttemptResult], states: Sequence[State | None]) -> None:
        """Note results that were recorded, and the states that followed. By one thread."""
        for result, state in zip(results, states, strict=True):
            if result.outcome is Outcome.ACCEPTED:
                self._accepted()
            elif state is State.FAILED and _is_unclear(result):
                self._since = self._since if self._count else result.begun
                self._count += 1
        if self._counts and self._count >= IN_A_ROW and not self.is_refused:
            with suppress(LedgerUnavailable):  # It is asked again at the next one.
                self._ask(results[-1].account)

    def _accepted(self) -> None:
        self._count = 0
        if self.is_refused:
            self.is_refused = False
            self._gate.rest(0)
            log.warning("the gateway accepts this worker's calls again")

    def _ask(self, account: str) -> None:
        if self._ledger.was_paused(account, self._since):
            self._count = 0
            return
        # All of them counted, so that somebody else's call was accepted in between.
        self.is_refused = True
        self._gate.rest(self._probe_s)
        log.critical(
            "the gateway refused this worker's last %d calls, and accepts those of others: is its "
            "secret theirs? It leaves messages to them now, but for one each %g s",
            self._count,
            self._probe_s,
        )


def _is_unclear(result: _Result) -> bool:
    """Return whether a refusal may be of the account, as breaker.lua counts it."""
    return (
        result.outcome is Outcome.REFUSED
        and result.scope not in _OF_THE_MESSAGE
        and not result.detail.startswith(_LOCAL)
    )
