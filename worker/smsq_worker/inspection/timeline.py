"""What happened to a message, in plain words: each call, each wait, each report, and the end.

The ledger keeps no diary. It knows when a message came, began each call and ended, and what each
call came to; a wait is told from what was before it, and a report has no time of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smsq.contract import State
from smsq.tracking import Attempt, key_holder
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.wording import instant, span
from smsq_worker.inspection.code_text import Lang, action, class_name, class_words, meaning
from smsq_worker.ledger.message_view import KINDS, Telling, Trace

LONG_S: Final = 1.0
"""A first call that comes later than that was kept waiting by something."""

_PHONE: Final = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")

STATES: Final = {
    State.QUEUED: "it waits for its turn",
    State.SENDING: "a worker is calling the gateway",
    State.DEFERRED: "it waits for a time",
    State.ACCEPTED: "the gateway took it, a delivery report is awaited",
    State.HELD: "nobody can know whether it was sent, and an operator decides",
    State.DELIVERED: "the SMS reached the phone",
    State.FAILED: "it was not delivered, and smsq does not try again",
    State.EXPIRED: "its ttl ran out, and it certainly was not sent",
    State.UNREPORTED: "the gateway took it, and no final report came in time",
    State.DUPLICATE: "another message held its key, and it was not sent",
    State.CANCELLED: "it was cancelled, and it certainly was not sent",
}
_REASONS: Final = {
    "local:cancelled": "it was cancelled, but an earlier call may have arrived",
    "local:dropped": "an operator gave it up while it was held",
    "local:frequency": "its number was sent to too often",
    "local:key-conflict": "its key is that of a message with another number or template",
    "local:invalid": "it broke the rules of a message",
    "local:lost": "Redis had lost its number and code: it must not evict, see smsq doctor",
    "local:resends": "calls may or may not have arrived, and no resend was left to it "
    "(SMSQ_MAX_RESENDS, or its ttl)",
    "local:suppressed": "nothing is sent to its number, see smsq suppressed",
}
_CALLS: Final[Mapping[str | None, str]] = {
    None: "no answer is recorded",
    Outcome.REFUSED: "the gateway refused it",
    Outcome.NOT_SENT: "it certainly did not arrive",
    Outcome.MAYBE_SENT: "it may or may not have reached the gateway",
}
_AGAIN: Final[Mapping[str, str]] = {
    Outcome.REFUSED: "tried again: the account was paused, so that its refusal did not count",
    Outcome.NOT_SENT: "tried again, as the call before had certainly not arrived",
    Outcome.MAYBE_SENT: "sent again, though the call before may have arrived: a possible duplicate",
}


def state_words(state: str) -> str:
    """Return what a state means."""
    return STATES.get(State(state), "a state of a newer release, which this one does not know")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or will."""

    at: datetime | None
    """None where it is not known, or has no moment."""
    kind: str
    text: str
    """One line, or several. Numbers in it are masked."""


def tell(trace: Trace, catalogue: Catalogue, lang: Lang, *, webhook: bool) -> Iterator[Event]:
    """Tell what happened, in order. `webhook`: whether outcomes go to one."""
    yield Event(trace.status.enqueued_at, "enqueued", _enqueued(trace))
    yield from _calls(trace, catalogue, lang)
    if trace.held_since:
        words = "held: nobody can know whether it was sent, and its policy is hold"
        yield Event(trace.held_since, "held", words)
    if trace.status.final:
        yield Event(trace.status.finished_at, "end", _end(trace, catalogue, lang))
        yield from _told(trace, webhook=webhook)


def clean(text: str) -> str:
    """Give somebody else's text fit for a terminal, with what looks like a number masked."""
    return _PHONE.sub(r"\1****\2", "".join(c if c.isprintable() else " " for c in text))


def receiver(trace: Trace, kind: str) -> str:
    """Name who is told an outcome."""
    names = {"task": f"the task {trace.notify}", "returnurl": f"{trace.return_host}"}
    return clean(names.get(kind, "the webhook"))


def kind_of(telling: Telling) -> tuple[str, str]:
    """Give an outcome's kind of receiver and its state."""
    kind, state, _ = telling.name.split(":", 2)
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


def _calls(trace: Trace, catalogue: Catalogue, lang: Lang) -> Iterator[Event]:
    attempts = trace.status.attempts
    if not attempts:
        return
    if gone := attempts[-1].n - len(attempts):
        words = f"{gone} earlier calls are no longer kept: none of them arrived"
        yield Event(None, "forgotten", words)
    if attempts[0].n == 1:
        yield from _first_wait(trace, attempts[0])
    before = None
    for attempt in attempts:
        if before is not None:
            yield Event(None, "wait", _again(before, attempt, catalogue))
        yield Event(attempt.started_at, "call", _call(trace, attempt))
        if attempt.stat:
            yield Event(None, "report", _report(trace, attempt, catalogue, lang))
        before = attempt


def _first_wait(trace: Trace, attempt: Attempt) -> Iterator[Event]:
    begun = max(trace.status.enqueued_at, trace.due_at or trace.status.enqueued_at)
    waited_s = (attempt.started_at - begun).total_seconds()
    if waited_s <= LONG_S:
        return
    over = [
        f"{scope} was paused until {instant(at)}"
        for scope, at in trace.resumed.items()
        if begun < at <= attempt.started_at
    ]
    why = ", ".join(over) or "whether for its turn, a time or a pause is not kept"
    yield Event(None, "wait", f"waited {span(waited_s)} for its first call: {why}")


def _again(before: Attempt, attempt: Attempt, catalogue: Catalogue) -> str:
    later_s = (attempt.started_at - before.started_at).total_seconds()
    later = span(later_s) if later_s > LONG_S else f"{later_s:.2f} s"
    if before.outcome == Outcome.ACCEPTED:
        why = f"sent again because of report {before.stat}" if before.stat else "sent again"
        if before.stat and catalogue.classify(before.stat).may_have_been_sent:
            why += ": a possible duplicate"
    else:
        why = _AGAIN.get(before.outcome or "", "sent again")
    return f"{later} later {why}"


def _call(trace: Trace, attempt: Attempt) -> str:
    begin = f"call {attempt.n}: "
    detail = f" ({clean(attempt.detail)})" if attempt.detail else ""
    under_way = trace.status.state == State.SENDING and attempt == trace.status.attempts[-1]
    if attempt.outcome is None and under_way:
        return f"{begin}under way"
    if attempt.outcome != Outcome.ACCEPTED:
        mid = f", mid {attempt.mid}" if attempt.mid else ""
        return f"{begin}{_CALLS[attempt.outcome]}{detail}{mid}"
    if not attempt.mid:
        return f"{begin}the gateway took it, but gave no mid: no report can be matched{detail}"
    words = f"{begin}the gateway took it{_after(trace, attempt)}, mid {attempt.mid}"
    if attempt.mid in trace.reused_mids:
        words += ", which it gave to another message too: no report can be matched"
    return words


def _after(trace: Trace, attempt: Attempt) -> str:
    accepted = trace.status.accepted_at
    if accepted is None or attempt != trace.status.attempts[-1] or accepted < attempt.started_at:
        return ""
    return f" after {(accepted - attempt.started_at).total_seconds():.2f} s"


def _report(trace: Trace, attempt: Attempt, catalogue: Catalogue, lang: Lang) -> str:
    code = catalogue.classify(attempt.stat or "")
    overtaken = attempt != trace.status.attempts[-1] and code.code_class != CodeClass.DELIVERED
    follows = "nothing, as a later call counts" if overtaken else action(code)
    return "\n".join(
        (
            f"report {code.stat}: {meaning(code, lang)}",
            f"  class {class_name(code.code_class, lang)}: {class_words(code.code_class, lang)}",
            f"  what smsq does: {follows}",
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
        return ": the gateway's own answer to the call"
    words = f": {_REASONS[reason]}" if reason in _REASONS else ""
    allowed = trace.status.allowed_at
    return f"{words}; it would be allowed from {instant(allowed)}" if allowed else words


def _told(trace: Trace, *, webhook: bool) -> Iterator[Event]:
    """Tell who has been told of the end, and who will not be."""
    if trace.asks_whom:
        return
    waits = {kind for kind, state in map(kind_of, trace.tellings) if state == trace.status.state}
    wanted = {"task": trace.notify, "returnurl": trace.return_host, "webhook": webhook}
    told = [receiver(trace, kind) for kind in KINDS if wanted[kind] and kind not in waits]
    if told:
        words = f"{trace.status.state} has been told to {', '.join(told)}"
        yield Event(None, "outcome", words)
    for telling in trace.tellings:
        if telling.next_at is None:
            kind, state = kind_of(telling)
            words = (
                f"{state} was not taken by {receiver(trace, kind)} and was given up after "
                f"{telling.tries} tries ({clean(telling.error)}): smsq notices replay "
                f"{telling.name}"
            )
            yield Event(None, "outcome", words)
