"""What happens to a message next, and when: from its timer, the pauses, the rate and its lane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from smsq.contract import Lane, State
from smsq_worker.domain.limits import Hours
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.wording import moment, span
from smsq_worker.inspection.snapshot import Inspector, Overview
from smsq_worker.inspection.timeline import Event, clean, kind_of, receiver
from smsq_worker.ledger.admin import ACCOUNT, BREAKER, Pause, template_scope
from smsq_worker.ledger.message_view import Trace

LATE_S: Final = 5.0
"""A timer that ran out so long ago should have been noticed by a clock."""

_RETRIES: Final[Mapping[str, str]] = {
    Outcome.NOT_SENT: "it is tried again, as the last call did not arrive",
    Outcome.MAYBE_SENT: "it is sent again, though the last call may have arrived: a possible "
    "duplicate",
    Outcome.REFUSED: "it is tried again: the account was paused, so the refusal did not count",
    Outcome.ACCEPTED: "it is sent again because of the last report",
}


@dataclass(frozen=True)
class ForecastContext:
    """A message, and what is around it."""

    trace: Trace
    lookout: Inspector
    bulk_hours: Hours | None

    @cached_property
    def whole(self) -> Overview:
        """Look at the whole, where it bears on what is next."""
        return self.lookout.look()


def scope_words(scope: str) -> str:
    """Name a scope as an operator writes it."""
    kind, _, name = scope.partition(":")
    return f"{kind} {name}".rstrip()


def pause_words(pause: Pause) -> str:
    """Say why there is a pause, and since when."""
    why = f"{pause.cause}: {pause.detail}" if pause.detail else pause.cause
    return f"{why}, since {moment(pause.since)}"


def pause_end(pause: Pause) -> str:
    """Say what ends a pause."""
    if pause.probe_at is None:
        return f"until smsq resume {scope_words(pause.scope)}"
    return f"next probe {moment(pause.probe_at)}"


def foresee(sight: ForecastContext) -> Iterator[Event]:
    """Say what happens next, the first thing first."""
    yield from _BY_STATE.get(State(sight.trace.status.state), _ended)(sight)
    yield from _outcomes(sight.trace)
    if sight.trace.forgotten_at:
        yield Event(sight.trace.forgotten_at, "forgotten", "the ledger forgets it")


def _queued(sight: ForecastContext) -> Iterator[Event]:
    trace, whole = sight.trace, sight.whole
    stops = _pauses(sight, ACCOUNT, BREAKER, template_scope(trace.status.template or ""))
    for pause in stops:
        yield _stopped_by(pause)
    if not stops:
        yield Event(None, "turn", _turn(sight))
    if trace.unpublished:
        words = "its wake-up could not be published; a worker's clock does it at its next look"
        yield Event(None, "wake-up", words)
    elif trace.timer_at and trace.timer_at != trace.expires_at:
        words = "if no worker has taken it by then, smsq looks whether its wake-up was lost"
        yield Event(trace.timer_at, "wake-up", words + _late(trace))
    yield from _ttl(trace)
    if not whole.broker_answers:
        yield Event(None, "broker", "the broker does not answer: wake-ups cannot be taken")


def _turn(sight: ForecastContext) -> str:
    lane, whole = Lane(sight.trace.status.lane), sight.whole
    oldest = whole.lanes[lane].oldest
    if oldest is not None and oldest.id == sight.trace.status.id:
        return f"it is the next of lane {lane}; lanes before it go first"
    lanes = list(Lane)
    earlier = lanes[: lanes.index(lane) + 1]
    ahead = sum(whole.lanes[name].live[State.QUEUED] for name in earlier) - 1
    if ahead <= 0:
        return "no other message is before it: it goes as soon as a worker takes it"
    age = f", the oldest of its lane for {span(oldest.age_s)}" if oldest else ""
    rate = whole.rate.now
    return (
        f"it waits for its turn: at most {ahead} messages go before it{age}; they take "
        f"{span(ahead / rate)} at {rate:g}/s"
    )


def _deferred(sight: ForecastContext) -> Iterator[Event]:
    trace = sight.trace
    if trace.in_waiting_room:
        pauses = _pauses(sight, template_scope(trace.status.template or ""))
        yield from map(_stopped_by, pauses)
        if not pauses:
            yield Event(None, "pause", "its template's pause is over: it goes on in a moment")
    else:
        yield Event(trace.timer_at, "resume", _why_then(sight) + _late(trace))
        yield from map(_stopped_by, _pauses(sight, ACCOUNT, BREAKER))
    yield from _ttl(trace)


def _why_then(sight: ForecastContext) -> str:
    trace = sight.trace
    if trace.timer_at == trace.expires_at:
        return "its wait ends with its ttl: it is not sent any more"
    if trace.due_at and trace.due_at > trace.at:
        return "it is scheduled for then, and takes its turn"
    if trace.number_rests_until and trace.number_rests_until > trace.at:
        return "it goes on: until then the gateway takes nothing for its number, as a report said"
    if trace.status.attempts:
        return _RETRIES.get(trace.status.attempts[-1].outcome or "", "it goes on")
    hours = sight.bulk_hours
    if trace.status.lane == Lane.BULK and hours and not hours.include(trace.at):
        return "lane bulk is sent from then (SMSQ_BULK_HOURS)"
    return "it goes on, and takes its turn"


def _sending(sight: ForecastContext) -> Iterator[Event]:
    follows = "is held for an operator" if sight.trace.holds else "is sent again, within its budget"
    words = f"without an answer by then its worker counts as dead: it is in doubt, and {follows}"
    yield Event(sight.trace.timer_at, "lease", words + _late(sight.trace))


def _accepted(sight: ForecastContext) -> Iterator[Event]:
    words = "until then a delivery report is awaited; without one it ends as unreported"
    yield Event(sight.trace.timer_at, "report", words + _late(sight.trace))


def _held(sight: ForecastContext) -> Iterator[Event]:
    trace = sight.trace
    name = trace.status.id
    if trace.expires_at and trace.expires_at <= trace.at:
        words = f"its ttl is over, it can only be given up: smsq held drop {name}"
    else:
        words = (
            f"you decide: smsq held resend {name} (a possible duplicate), or smsq held drop {name}"
        )
    yield Event(None, "decision", words)
    yield Event(None, "report", "a late answer or report settles it by itself")


def _ended(sight: ForecastContext) -> Iterator[Event]:
    trace = sight.trace
    late = {
        State.FAILED: "a late report that it was delivered would still make it delivered",
        State.UNREPORTED: "a late report still moves it on",
        State.CANCELLED: "a late report that it was delivered would still make it delivered",
    }.get(State(trace.status.state))
    if late and trace.report_until:
        yield Event(trace.report_until, "report", f"until then {late}")


def _outcomes(trace: Trace) -> Iterator[Event]:
    if trace.asks_whom:
        yield Event(None, "outcome", "a worker looks whom this end is to be told")
    for telling in trace.tellings:
        if telling.next_at:
            kind, state = kind_of(telling)
            failed = f"; {telling.tries} tries, the last: {clean(telling.error)}"
            words = f"{state} is still to be told to {receiver(trace, kind)}"
            yield Event(telling.next_at, "outcome", words + failed * bool(telling.error))


def _ttl(trace: Trace) -> Iterator[Event]:
    if trace.expires_at:
        end = f"failed, {trace.otherwise}" if trace.otherwise else "expired"
        words = f"if it has not been sent by then its ttl is over, and it ends as {end}"
        yield Event(trace.expires_at, "ttl", words)


def _pauses(sight: ForecastContext, *scopes: str) -> list[Pause]:
    return [pause for pause in sight.whole.pauses if pause.scope in scopes]


def _stopped_by(pause: Pause) -> Event:
    words = (
        f"it waits for the end of the pause of {scope_words(pause.scope)} "
        f"({pause_words(pause)}); {pause_end(pause)}"
    )
    return Event(pause.probe_at, "pause", words)


def _late(trace: Trace) -> str:
    if trace.timer_at is None:
        return ""
    late_s = (trace.at - trace.timer_at).total_seconds()
    words = f" (overdue for {span(late_s)}: does a worker run? smsq doctor)"
    return words if late_s > LATE_S else ""


_BY_STATE: Final = {
    State.QUEUED: _queued,
    State.DEFERRED: _deferred,
    State.SENDING: _sending,
    State.ACCEPTED: _accepted,
    State.HELD: _held,
}
