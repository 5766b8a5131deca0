"""A message's way to the gateway, one at a time: admit, submit, record."""

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
from smsq_worker.gateway.response import GatewayResult
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admitted, AttemptResult, Rejected
from smsq_worker.sending.rate_limiter import RateLimiter
from smsq_worker.sending.result_recorder import ResultRecorder

log = logging.getLogger(__name__)

# It waits, within its ttl, until a worker has the key.
UNREADABLE: Final = GatewayResult(Outcome.NOT_SENT, "no key opens its payload")
# A failover would undo its admission, and it would silently be sent again.
UNSAFE: Final = GatewayResult(Outcome.NOT_SENT, "too few replicas had its admission in time")
STOPPED: Final = GatewayResult(Outcome.MAYBE_SENT, "worker was stopped")
NOT_RECORDED: Final = "not recorded yet"


class Sender:
    """Sends messages that the ledger holds. Threads share it."""

    def __init__(
        self,
        rate_limiter: RateLimiter,
        gateway: Gateway,
        ledger_writer: LedgerWriter,
        recorder: ResultRecorder,
        backoff: Backoff,
    ) -> None:
        self._rate_limiter = rate_limiter
        self._gateway = gateway
        self._ledger_writer = ledger_writer
        self._recorder = recorder
        self._backoff = backoff
        self._in_flight: set[tuple[str, int, int]] = set()

    def send(
        self, message_id: str, lane: Lane, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> str:
        """Send a message in its slot, if it is admitted; return a word or two on the result.

        Raises RequeueLater where its wake-up belongs back in the queue. `args` and `kwargs` count
        only if the ledger does not know the id: then this is a bare Celery message of another
        language, which is checked and entered here.
        """
        reached("before admit")
        admission = self._rate_limiter.admit(message_id, lane)
        if isinstance(admission, Rejected) and admission.why == "unknown" and (args or kwargs):
            if self._enter(message_id, args, kwargs) is not State.QUEUED:
                return "entered"
            admission = self._rate_limiter.admit(message_id, lane)
        if isinstance(admission, Rejected):
            return self._rejected(message_id, lane, admission)
        reached("after admit")
        result = self.submit(message_id, lane, admission)
        (state,) = self.record([result], lane)
        return state

    def _enter(self, message_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> State:
        try:
            return self._ledger_writer.enter(message_id, parse(args, kwargs))
        except InvalidMessage as error:
            log.warning(
                "%s breaks the rules and failed: %s",
                message_id,
                error,
                extra=about(id=message_id, state=State.FAILED),
            )
            is_conflict = isinstance(error, KeyConflict)
            reason = "local:key-conflict" if is_conflict else "local:invalid"
            return self._ledger_writer.refuse(message_id, str(error), reason)

    def _rejected(self, message_id: str, lane: Lane, rejected: Rejected) -> str:
        if rejected.why == "unknown":
            log.warning(
                "%s was woken up, but the ledger does not know it",
                message_id,
                extra=about(id=message_id, lane=lane),
            )
        return f"{rejected.why} {rejected.state or ''}".strip()

    def submit(self, message_id: str, lane: Lane, admitted: Admitted) -> AttemptResult:
        """Submit an admitted message to the gateway; the result is to be recorded next."""
        attempt = (message_id, admitted.attempt, admitted.begun)
        if not admitted.phone:
            log.error(
                "%s cannot be sent: no key of SMSQ_PAYLOAD_KEYS here opens it",
                message_id,
                extra=about(id=message_id, attempt=admitted.attempt, lane=lane),
            )
            return self._result(attempt, UNREADABLE)
        if not admitted.is_safe:
            return self._result(attempt, UNSAFE)
        self._in_flight.add(attempt)
        since_ns = time.time_ns()
        result = self._gateway.submit(
            admitted.phone,
            admitted.template,
            admitted.code,
            wait=lambda: self._rate_limiter.wait_for_send_time(message_id, admitted),
            lease_ends=admitted.lease_ends,
        )
        reached("after call")
        if admitted.trace:
            known: dict[str, object] = {"id": message_id, "lane": lane}
            known |= {"template": admitted.template, "attempt": admitted.attempt}
            known |= {"outcome": result.outcome, "mid": result.mid}
            error = "" if result.outcome is Outcome.ACCEPTED else result.outcome
            tracing.happened(admitted.trace, "smsq call", "CLIENT", since_ns, known, error=error)
        return self._result(attempt, result)

    def record(
        self,
        results: Sequence[AttemptResult],
        lane: Lane | None = None,
        *,
        log_good: int = logging.INFO,
    ) -> list[str]:
        """Record the results of attempts; return each message's state."""
        try:
            states = self._recorder.record(results)
        finally:
            self._in_flight.difference_update(
                (result.message_id, result.attempt, result.begun) for result in results
            )
        reached("after record")
        for result, state in zip(results, states, strict=True):
            level = log_good if result.outcome is Outcome.ACCEPTED else logging.WARNING
            if log.isEnabledFor(level):
                _log_result(level, result, state, lane)
        return [str(state or NOT_RECORDED) for state in states]

    def abandon(self) -> None:
        """Record the attempts in flight as in doubt: this process will not see their end."""
        self.record([self._result(attempt, STOPPED) for attempt in list(self._in_flight)])

    def _result(self, attempt: tuple[str, int, int], result: GatewayResult) -> AttemptResult:
        message_id, number, begun = attempt
        return AttemptResult(
            message_id,
            number,
            result.outcome,
            result.detail,
            result.mid,
            wait_s=max(self._backoff.wait_s(number), result.retry_after_s),
            trouble=result.trouble,
            too_fast=result.too_fast,
            begun=begun,
        )


def _log_result(level: int, result: AttemptResult, state: State | None, lane: Lane | None) -> None:
    known = {name: getattr(result, name) for name in ("attempt", "mid", "outcome")}
    log.log(
        level,
        "%s attempt %d: %s%s, now %s",
        result.message_id,
        result.attempt,
        result.outcome,
        f" ({result.detail})" if result.detail else "",
        state or NOT_RECORDED,
        extra=about(id=result.message_id, **known, state=state, lane=lane),
    )
