"""Notice that what this worker alone takes comes to nothing: a wrong secret, no network, no key.

Pauses are of an account, for all workers. Beside good ones a worker with a wrong secret never comes
to as many refusals in a row as pause it, and would fail its share of the messages one by one. One
without a network would stop the others, as the outage that it meets is taken for theirs. One that
lacks the newest of SMSQ_PAYLOAD_KEYS would put off its share of the messages, again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from smsq.contract import State
from smsq.errors import LedgerUnavailable
from smsq_worker.domain.codes import Scope
from smsq_worker.domain.states import Outcome
from smsq_worker.domain.testnumbers import MID_PREFIX
from smsq_worker.ledger import AttemptResult, Ledger
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.vendors.vendor import GatewayResult

log = logging.getLogger(__name__)

REFUSALS: Final = 20
"""As many in a row pause the account, see breaker.lua."""
TROUBLES: Final = 10
"""Half of what the breaker needs by default: two workers share the attempts that it looks at."""
UNREADABLES: Final = 5
"""A few in a row may be malformed."""
UNREADABLE: Final = "no key opens its payload"
"""The detail of an attempt that was not made for that."""
FIRST_REST_S: Final = 1.0
"""It may have been a moment's fault, and nobody else may serve this worker's queues."""
PROBES: Final = 10
"""After as many without an acceptance by anybody the fault is no longer of this worker alone."""
_OF_THE_ACCOUNT: Final = {"", Scope.ACCOUNT, Scope.GATEWAY}
"""Not more than record.lua counts, whatever the accounts: or none but this worker would stop."""
_LOCAL: Final = "local:"


@dataclass
class _Run:
    """Calls in a row that came to nothing in one way."""

    enough: int
    is_only_mine: Callable[[str, int], bool]
    """Asks the ledger, of an account and since when, in Unix ms."""
    advice: str
    over: str = "the gateway answers this worker's calls again"
    count: int = 0
    since: int = 0

    def add(self, begun: int) -> None:
        if not self.count:
            self.since = begun
        self.count += 1


class OwnFaults:
    """Counts what this worker had in a row that was refused, met trouble, or was unreadable to it.

    Where others' calls get through meanwhile, it takes one message now and then, at last each
    `probe_s`, until a call of its own does, and what is refused to it says nothing of its message.
    Where theirs do not any more, it counts as any other again, and the account is paused: operators
    see that, and would not see that each worker leaves messages to the others.
    Refusals are counted where it has one account: of several, another one sends what one refuses.
    """

    def __init__(
        self, ledger: Ledger, gate: ConsumerGate, probe_s: float, *, has_several: bool = False
    ) -> None:
        self._ledger, self._gate = ledger, gate
        self._probe_s, self._has_several = probe_s, has_several
        self._refused = _Run(
            REFUSALS,
            lambda account, since: not ledger.was_paused(account, since),
            "the gateway refused this worker's last %d calls, not those of others: is its secret "
            "right?",
        )
        self._troubled = _Run(
            TROUBLES,
            ledger.answered_since,
            "the gateway did not answer this worker's last %d calls, but those of others: is its "
            "network well?",
        )
        self._unread = _Run(
            UNREADABLES,
            lambda *_: ledger.accepted_calls() > self._accepted_then,
            "this worker's SMSQ_PAYLOAD_KEYS opened none of its last %d messages, and others send: "
            "does it have the newest?",
            over="this worker can read messages again",
        )
        self._accepted_then = 0
        """How many calls were accepted when it could not read the first of a run."""
        self._fault: _Run | None = None
        self._rest_s = FIRST_REST_S
        self._probes = self._accepted = 0
        """Probes since an acceptance by anybody was seen, and the count of those."""

    @property
    def is_suspect(self) -> bool:
        """Return whether this worker leaves messages to the others."""
        return self._fault is not None

    def excused(self, result: GatewayResult) -> GatewayResult:
        """Return what is to be recorded of a result."""
        if self._fault is not self._refused or not _may_be_of_the_account(result):
            return result
        why = f"refused by the gateway to this worker alone: {result.detail}"
        return GatewayResult(Outcome.NOT_SENT, why, scope="worker")

    def admitted(self) -> None:
        """Note that a message was admitted: of a suspect one is enough."""
        if self.is_suspect:
            self._probes += 1
            self._rest()

    def note(self, results: Sequence[AttemptResult], states: Sequence[State | None]) -> None:
        """Note results that were recorded, and the states that followed. By one thread."""
        for result, state in zip(results, states, strict=True):
            self._note_one(result, state)
            self._note_readable(result)
        if self._fault and not self._fault.count:
            self._go_on(self._fault.over)
        if self._fault and self._probes:
            with suppress(LedgerUnavailable):
                self._look_at_others(self._fault)
        for run in (self._refused, self._troubled, self._unread):
            if run.count >= run.enough and not self._fault:
                with suppress(LedgerUnavailable):  # It is asked again at the next one.
                    self._judge(run, results[-1].account)

    def _note_one(self, result: AttemptResult, state: State | None) -> None:
        if result.mid.startswith(MID_PREFIX):
            return  # A test number's: nobody was called.
        if result.trouble:
            self._troubled.add(result.begun)
            self._gate.leaves_probes = True
        elif result.outcome is Outcome.ACCEPTED:
            self._refused.count = self._troubled.count = 0
            self._gate.leaves_probes = False
        elif _is_refusal(result):
            self._troubled.count = 0
            if _may_be_of_the_account(result):
                self._gate.leaves_probes = True
                if state is State.FAILED and not self._has_several:
                    self._refused.add(result.begun)

    def _note_readable(self, result: AttemptResult) -> None:
        if result.detail == UNREADABLE:
            with suppress(LedgerUnavailable):
                if not self._unread.count:
                    self._accepted_then = self._ledger.accepted_calls()
                self._unread.add(result.begun)
        elif result.scope != "worker":
            self._unread.count = 0

    def _judge(self, run: _Run, account: str) -> None:
        if run.is_only_mine(account, run.since):
            self._accepted, self._probes = self._ledger.accepted_calls(), 0
            self._fault, self._rest_s = run, FIRST_REST_S
            self._rest()
            why = f"{run.advice} It leaves messages to them, but for one now and then"
            log.critical(why, run.count)
        elif run is self._refused:
            run.count = 0  # They have paused the account.

    def _look_at_others(self, run: _Run) -> None:
        accepted = self._ledger.accepted_calls()
        if accepted != self._accepted:
            self._accepted, self._probes = accepted, 0
        elif self._probes >= PROBES:
            run.count = 0
            self._go_on("nobody's calls are accepted: this worker takes messages as any other")

    def _go_on(self, why: str) -> None:
        self._fault = None
        self._gate.rest(0)
        log.warning(why)

    def _rest(self) -> None:
        self._gate.rest(min(self._rest_s, self._probe_s))
        self._rest_s = min(2 * self._rest_s, self._probe_s)


def _is_refusal(result: GatewayResult | AttemptResult) -> bool:
    """Return whether the gateway refused something."""
    return result.outcome is Outcome.REFUSED and not result.detail.startswith(_LOCAL)


def _may_be_of_the_account(result: GatewayResult | AttemptResult) -> bool:
    return _is_refusal(result) and result.scope in _OF_THE_ACCOUNT
