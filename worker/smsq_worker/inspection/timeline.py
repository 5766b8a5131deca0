"""What happened to a message, in plain words: each attempt, wait and report, and the end.

The ledger keeps no log. It has the time of entry, of the beginning of each attempt and of the end,
and each attempt's result; waits are derived from those, and a report has no time of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from smsq.contract import State
from smsq.tracking import Attempt, key_holder
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.domain.states import Outcome
from smsq_worker.inspection.code_text import Lang, action, class_name, class_words, meaning
from smsq_worker.inspection.formatting import clean, instant, span
from smsq_worker.ledger.message_view import KINDS, Telling, Trace

LONG_S: Final = 1.0
"""Something delayed a first attempt that comes later than this."""

STATES: Final = {
    State.QUEUED: "it waits in its lane",
    State.SENDING: "a worker is submitting it to the gateway",
    State.DEFERRED: "it waits until a set time",
    State.ACCEPTED: "the gateway accepted it, a delivery report is awaited",
    State.HELD: "nobody can know whether it was sent, and an operator decides",
    State.DELIVERED: "the SMS reached the phone",
    State.FAILED: "it was not delivered, and smsq does not try again",
    State.EXPIRED: "its ttl ran out, and it certainly was not sent",
    State.UNREPORTED: "the gateway accepted it, and no final report came in time",
    State.DUPLICATE: "another message has its key, and it was not sent",
    State.CANCELLED: "it was cancelled, and it certainly was not sent",
}
_REASONS: Final = {
    "local:cancelled": "it was cancelled, but an earlier attempt may have been sent",
    "local:dropped": "an operator dropped it while it was held",
    "local:frequency": "too many messages were sent to its number",
    "local:key-conflict": "its key belongs to a message with another number or template",
    "local:invalid": "it broke the rules of a message",
    "local:lost": "Redis lost its number and code: it must not evict, see smsq doctor",
    "local:resends": "its attempts may or may not have been sent, and no resend was left "
    "(SMSQ_MAX_RESENDS, or its ttl)",
    "local:suppressed": "its number is suppressed, see smsq suppressed",
}
_ATTEMPTS: Final[Mapping[str | None, str]] = {
    None: "no response is recorded",
    Outcome.REFUSED: "the gateway refused it",
    Outcome.NOT_SENT: "it certainly did not reach the gateway",
    Outcome.MAYBE_SENT: "it may or may not have reached the gateway",
}
_AGAIN: Final[Mapping[str, str]] = {
    Outcome.REFUSED: "tried again: the account was paused, so its refusal did not count",
    Outcome.NOT_SENT: "tried again, as the attempt before certainly did not reach the gateway",
    Outcome.MAYBE_SENT: "sent again, though the attempt before may have reached the gateway: "
    "a possible duplicate",
}


def state_words(state: str) -> str:
    """Return what a state means."""
    return STATES.get(State(state), "a state of a newer release, which this one does not know")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, or will."""

    at: datetime | None
    """None if unknown, or if it has no time."""
    kind: str
    text: str
    """One or more lines. Phone numbers in it are masked."""


def past_events(
    trace: Trace, catalogue: Catalogue, lang: Lang, *, webhook: bool
) -> Iterator[Event]:
    """Yield what happened, in order. `webhook`: whether a webhook is set for callbacks."""
    yield Event(trace.status.enqueued_at, "enqueued", _enqueued(trace))
    yield from _attempts(trace, catalogue, lang)
    if trace.held_since:
        words = "held: nobody can know whether it was sent, and its policy is hold"
        yield Event(trace.held_since, "held", words)
    if trace.status.final:
        yield Event(trace.status.finished_at, "end", _end(trace, catalogue, lang))
        yield from _callbacks(trace, webhook=webhook)


def receiver(trace: Trace, kind: str) -> str:
    """Return the name of an endpoint of callbacks."""
    names = {"task": f"the task {trace.notify}", "returnurl": f"{trace.return_host}"}
    return clean(names.get(kind, "the webhook"))


def kind_of(callback: Telling) -> tuple[str, str]:
    """Return the kind of endpoint of a callback, and the state that it reports."""
    kind, state, _ = callback.name.split(":", 2)
    return kind, state


def _enqueued(trace: Trace) -> str:
    words = f"enqueued in lane {trace.status.lane}"
    if trace.caller:
        words += f", by the relay's caller {clean(trace.caller)}"
    if trace.due_at:
        words += f", not to be sent before {instant(trace.due_at)}"
    if trace.status.reference:
        words += f"; reference: {clean(trace.status.reference)}"
    return words


def _attempts(trace: Trace, catalogue: Catalogue, lang: Lang) -> Iterator[Event]:
    attempts = trace.status.attempts
    if not attempts:
        return
    if dropped := attempts[-1].n - len(attempts):
        words = f"{dropped} earlier attempts are no longer kept: none of them reached the gateway"
        yield Event(None, "forgotten", words)
    if attempts[0].n == 1:
        yield from _first_wait(trace, attempts[0])
    yield from _attempt_events(trace, attempts[0], catalogue, lang)
    for before, attempt in pairwise(attempts):
        yield Event(None, "wait", _again(before, attempt, catalogue))
        yield from _attempt_events(trace, attempt, catalogue, lang)


def _attempt_events(
    trace: Trace, attempt: Attempt, catalogue: Catalogue, lang: Lang
) -> Iterator[Event]:
    yield Event(attempt.started_at, "call", f"attempt {attempt.n}: {_result(trace, attempt)}")
    if attempt.stat:
        yield Event(None, "report", _report(trace, attempt, catalogue, lang))


def _first_wait(trace: Trace, attempt: Attempt) -> Iterator[Event]:
    begun = max(trace.status.enqueued_at, trace.due_at or trace.status.enqueued_at)
    waited_s = (attempt.started_at - begun).total_seconds()
    if waited_s <= LONG_S:
        return
    pauses = [
        f"{scope} was paused until {instant(at)}"
        for scope, at in trace.resumed.items()
        if begun < at <= attempt.started_at
    ]
    why = ", ".join(pauses) or "it is not recorded whether for the rate limit, a time or a pause"
    yield Event(None, "wait", f"waited {span(waited_s)} for its first attempt: {why}")


def _again(before: Attempt, attempt: Attempt, catalogue: Catalogue) -> str:
    later_s = (attempt.started_at - before.started_at).total_seconds()
    later = span(later_s) if later_s > LONG_S else f"{later_s:.2f} s"
    why = _AGAIN.get(before.outcome or "", "sent again")
    if before.outcome == Outcome.ACCEPTED and before.stat:
        why = f"sent again because of report {before.stat}"
        if catalogue.classify(before.stat).may_have_been_sent:
            why += ": a possible duplicate"
    return f"{later} later {why}"


def _result(trace: Trace, attempt: Attempt) -> str:
    detail = f" ({clean(attempt.detail)})" if attempt.detail else ""
    is_last = attempt == trace.status.attempts[-1]
    if attempt.outcome is None and is_last and trace.status.state == State.SENDING:
        return "in progress"
    if attempt.outcome != Outcome.ACCEPTED:
        mid = f", mid {attempt.mid}" if attempt.mid else ""
        return f"{_ATTEMPTS[attempt.outcome]}{detail}{mid}"
    if not attempt.mid:
        return f"the gateway accepted it, but returned no mid: no report can be matched{detail}"
    accepted, after = trace.status.accepted_at, ""
    if accepted and is_last and accepted >= attempt.started_at:
        after = f" after {(accepted - attempt.started_at).total_seconds():.2f} s"
    words = f"the gateway accepted it{after}, mid {attempt.mid}"
    if attempt.mid in trace.reused_mids:
        words += ", which it gave to another message too: no report can be matched"
    return words


def _report(trace: Trace, attempt: Attempt, catalogue: Catalogue, lang: Lang) -> str:
    code = catalogue.classify(attempt.stat or "")
    overtaken = attempt != trace.status.attempts[-1] and code.code_class != CodeClass.DELIVERED
    return "\n".join(
        (
            f"report {code.stat}: {meaning(code, lang)}",
            f"  class {class_name(code.code_class, lang)}: {class_words(code.code_class, lang)}",
            f"  action: {'none, as a later attempt counts' if overtaken else action(code)}",
        )
    )


def _end(trace: Trace, catalogue: Catalogue, lang: Lang) -> str:
    status = trace.status
    words = f"{status.state}: {state_words(status.state)}"
    if status.reason:
        words += f"; reason {status.reason}{_reason(trace, catalogue, lang)}"
    if status.detail:
        words += f"; {clean(status.detail)}"
    if status.certainly_not_sent and status.state == State.FAILED:
        words += "; it certainly was not sent"
    return words


def _reason(trace: Trace, catalogue: Catalogue, lang: Lang) -> str:
    reason = trace.status.reason or ""
    if holder := key_holder(reason):
        return f": the first message with its key, see smsq explain {holder}"
    if reason.startswith("report:"):
        return f": {meaning(catalogue.classify(reason.removeprefix('report:')), lang)}"
    if reason.startswith("gateway:"):
        return ": the gateway's own response to the attempt"
    words = f": {_REASONS[reason]}" if reason in _REASONS else ""
    allowed = trace.status.allowed_at
    return f"{words}; it would be allowed from {instant(allowed)}" if allowed else words


def _callbacks(trace: Trace, *, webhook: bool) -> Iterator[Event]:
    """Yield which endpoints have accepted the callback, and which never will."""
    if trace.asks_whom:
        return
    state = trace.status.state
    open_kinds = {kind for kind, of in map(kind_of, trace.tellings) if of == state}
    wanted = {"task": trace.notify, "returnurl": trace.return_host, "webhook": webhook}
    taken = [receiver(trace, kind) for kind in KINDS if wanted[kind] and kind not in open_kinds]
    if taken:
        yield Event(None, "outcome", f"{state} was reported to {', '.join(taken)}")
    for callback in trace.tellings:
        if callback.next_at is None:
            kind, reported = kind_of(callback)
            words = (
                f"{reported} was not taken by {receiver(trace, kind)}, abandoned after "
                f"{callback.tries} tries ({clean(callback.error)}): smsq notices replay "
                f"{callback.name}"
            )
            yield Event(None, "outcome", words)
