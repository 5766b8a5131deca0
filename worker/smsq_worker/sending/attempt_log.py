"""What the log and the trace say of attempts."""

from __future__ import annotations

import logging
from typing import Final

from smsq import tracing
from smsq.contract import Lane, State
from smsq_worker.domain.accounts import unqualified
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.logs import about
from smsq_worker.ledger import Admitted, AttemptResult, Rejected
from smsq_worker.sending.attempts import Ended
from smsq_worker.vendors.vendor import GatewayResult

# Whoever reads the log finds these lines by the sender's name.
log = logging.getLogger("smsq_worker.sending.sender")

NOT_RECORDED: Final = "not recorded yet"
LOST: Final = "left to its lease"


def trace(
    message_id: str, lane: Lane, admitted: Admitted, result: GatewayResult, since_ns: int
) -> None:
    """Add an attempt's call to its message's trace."""
    known: dict[str, object] = {"id": message_id, "lane": lane}
    known |= {"template": admitted.template, "attempt": admitted.attempt}
    known |= {"outcome": result.outcome, "mid": result.mid, "account": admitted.account}
    error = "" if result.outcome is Outcome.ACCEPTED else result.outcome
    tracing.happened(admitted.trace, "smsq call", "CLIENT", since_ns, known, error=error)


def word_of(ended: Ended) -> str:
    """Return a word or two on a message that was not submitted, or whose result is lost."""
    if not isinstance(ended.result, Rejected):
        return LOST
    why, state = ended.result.why, ended.result.state
    if why == "unknown" and not ended.wakeup.is_batch:
        log.warning(
            "%s was woken up, but the ledger does not know it",
            ended.message_id,
            extra=about(id=ended.message_id, lane=ended.wakeup.lane),
        )
    return why if ended.wakeup.is_batch else f"{why} {state or ''}".strip()


def log_result(
    result: AttemptResult, state: State | None, lane: Lane | None = None, *, is_quiet: bool = False
) -> None:
    """Log what an attempt came to, and the state that followed; None: it is not recorded yet."""
    is_good = result.outcome is Outcome.ACCEPTED
    level = (logging.DEBUG if is_quiet else logging.INFO) if is_good else logging.WARNING
    if not log.isEnabledFor(level):
        return
    mid, account = unqualified(result.mid)[0], result.account
    known = {"attempt": result.attempt, "mid": mid, "outcome": result.outcome, "account": account}
    log.log(
        level,
        "%s attempt %d%s: %s%s, now %s",
        result.message_id,
        result.attempt,
        f" at {account}" if account else "",
        result.outcome,
        f" ({result.detail})" if result.detail else "",
        state or NOT_RECORDED,
        extra=about(id=result.message_id, **known, state=state, lane=lane),
    )
