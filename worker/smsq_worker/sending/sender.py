"""A message's way to the gateway: admit, call, record. It knows no Celery."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from smsq import tracing
from smsq.contract import Lane, State, parse
from smsq.errors import InvalidMessage, KeyConflict
from smsq.failpoints import reached
from smsq.ledger_writer import LedgerWriter
from smsq_worker.domain.backoff import Backoff
from smsq_worker.domain.states import Outcome
from smsq_worker.gateway.client import Gateway
from smsq_worker.gateway.response import Call
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admitted, AttemptResult, Rejected
from smsq_worker.sending.rate_limiter import RateLimiter
from smsq_worker.sending.result_recorder import ResultRecorder

log = logging.getLogger(__name__)

# It waits until a worker has the key, at most for its ttl.
UNREADABLE: Final = Call(Outcome.NOT_SENT, "no key opens its payload")
# A failover would undo its admission, and it would be sent again, and nobody would know.
UNSAFE: Final = Call(Outcome.NOT_SENT, "too few replicas had its admission in time")


class Sender:
    """Sends messages that the ledger holds."""

    def __init__(
        self,
        turnstile: RateLimiter,
        gateway: Gateway,
        entrance: LedgerWriter,
        recorder: ResultRecorder,
        backoff: Backoff,
    ) -> None:
        self._turnstile = turnstile
        self._gateway = gateway
        self._entrance = entrance
        self._recorder = recorder
        self._backoff = backoff
        self._in_flight: set[tuple[str, int, int]] = set()

    def deliver(
        self, message_id: str, lane: Lane, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str:
        """Send a message in its turn, if it may go; say in a word or two what came of it.

        Raises RequeueLater where its wake-up is to be given back. `args` and `kwargs` count only
        where the ledger does not know the id: then this is a bare Celery message of another
        language, and it is entered here.
        """
        reached("before admit")
        admission = self._turnstile.admit(message_id, lane)
        if isinstance(admission, Rejected) and admission.why == "unknown" and (args or kwargs):
            if self._enter(message_id, args, kwargs) is not State.QUEUED:
                return "entered"
            admission = self._turnstile.admit(message_id, lane)
        if isinstance(admission, Admitted):
            reached("after admit")
            return self.settle([self.call(message_id, lane, admission)], lane)[0]
        if admission.why == "unknown":
            log.warning(
                "%s was woken up, but the ledger does not know it",
                message_id,
                extra=about(id=message_id, lane=lane),
            )
        return f"{admission.why} {admission.state or ''}".strip()

    def _enter(self, message_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> State:
        try:
            return self._entrance.enter(message_id, parse(args, kwargs))
        except InvalidMessage as error:
            log.warning(
                "%s breaks the rules and failed: %s",
                message_id,
                error,
                extra=about(id=message_id, state=State.FAILED),
            )
            is_conflict = isinstance(error, KeyConflict)
            reason = "local:key-conflict" if is_conflict else "local:invalid"
            return self._entrance.refuse(message_id, str(error), reason)

    def call(self, message_id: str, lane: Lane, go: Admitted) -> AttemptResult:
        """Call the gateway for a message that may go; what it came to is to be settled next."""
        if not go.phone:
            log.error(
                "%s cannot be sent: no key of SMSQ_PAYLOAD_KEYS here opens it",
                message_id,
                extra=about(id=message_id, attempt=go.attempt, lane=lane),
            )
            return self._came_to(message_id, go.attempt, go.begun, UNREADABLE)
        if not go.is_safe:
            return self._came_to(message_id, go.attempt, go.begun, UNSAFE)
        self._in_flight.add((message_id, go.attempt, go.begun))
        since_ns = time.time_ns()
        call = self._gateway.send(
            go.phone,
            go.template,
            go.code,
            depart=lambda: self._turnstile.depart(message_id, go),
            lease_ends=go.lease_ends,
        )
        reached("after call")
        if go.trace:
            known: dict[str, object] = {"id": message_id, "lane": lane, "template": go.template}
            known |= {"attempt": go.attempt, "outcome": call.outcome, "mid": call.mid}
            error = "" if call.outcome is Outcome.ACCEPTED else call.outcome
            tracing.happened(go.trace, "smsq call", "CLIENT", since_ns, known, error=error)
        return self._came_to(message_id, go.attempt, go.begun, call)

    def settle(
        self,
        calls: Sequence[AttemptResult],
        lane: Lane | None = None,
        *,
        log_good: int = logging.INFO,
    ) -> list[str]:
        """Write down what calls came to; give each message's state."""
        try:
            states = self._recorder.record(calls)
        finally:
            self._in_flight.difference_update(
                (call.message_id, call.attempt, call.begun) for call in calls
            )
        reached("after record")
        for call, state in zip(calls, states, strict=True):
            level = log_good if call.outcome is Outcome.ACCEPTED else logging.WARNING
            if not log.isEnabledFor(level):
                continue
            log.log(
                level,
                "%s attempt %d: %s%s, now %s",
                call.message_id,
                call.attempt,
                call.outcome,
                f" ({call.detail})" if call.detail else "",
                state or "not recorded yet",
                extra=about(
                    id=call.message_id,
                    attempt=call.attempt,
                    mid=call.mid,
                    outcome=call.outcome,
                    state=state,
                    lane=lane,
                ),
            )
        return [str(state or "not recorded yet") for state in states]

    def abandon(self) -> None:
        """Record the calls in flight as in doubt, because this process will not see their end."""
        stopped = Call(Outcome.MAYBE_SENT, "worker was stopped")
        self.settle([self._came_to(*one, stopped) for one in list(self._in_flight)])

    def _came_to(self, message_id: str, attempt: int, begun: int, call: Call) -> AttemptResult:
        return AttemptResult(
            message_id,
            attempt,
            call.outcome,
            call.detail,
            call.mid,
            wait_s=max(self._backoff.wait_s(attempt), call.retry_after_s),
            trouble=call.trouble,
            too_fast=call.too_fast,
            begun=begun,
        )
