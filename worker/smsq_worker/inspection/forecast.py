"""What happens to a message next, and when: from its timer, the pauses, the rate and its lane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from smsq.contract import Lane, State
from smsq_worker.domain.limits import Hours
from smsq_worker.domain.scopes import name_of, scopes_at
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.accounts import route_for
from smsq_worker.inspection.callback_text import kind_of, receiver
from smsq_worker.inspection.events import Event
from smsq_worker.inspection.formatting import (
    clean,
    pause_end,
    pause_words,
    scope_name,
    span,
    state_name,
)
from smsq_worker.inspection.snapshot import Inspector, Snapshot
from smsq_worker.ledger.message_view import Trace

LATE_S: Final = 5.0
"""A timer that has been due for this long should have been noticed by a scheduler."""

_RETRIES: Final[Mapping[str, str]] = {
    Outcome.NOT_SENT: N_("it is tried again, as the gateway did not take the last attempt"),
    Outcome.MAYBE_SENT: N_(
        "it is sent again, though the last attempt may have reached the gateway: "
        "a possible duplicate"
    ),
    Outcome.REFUSED: N_("it is tried again: the account was paused, so the refusal did not count"),
    Outcome.ACCEPTED: N_("it is sent again because of the last report"),
}
_TO_DELIVERED: Final = N_("until then a late report of its delivery would still make it delivered")
_LATE_REPORTS: Final[Mapping[State, str]] = {
    State.FAILED: _TO_DELIVERED,
    State.UNREPORTED: N_("until then a late report still changes its state"),
    State.CANCELLED: _TO_DELIVERED,
}


@dataclass(frozen=True)
class ForecastContext:
    """A message, and what bears on its future."""

    trace: Trace
    inspector: Inspector
    bulk_hours: Hours | None

    @cached_property
    def snapshot(self) -> Snapshot:
        """Return a snapshot, taken only for a message whose future needs it."""
        return self.inspector.take_snapshot()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of the accounts that may take it, in the order of its route.

        After a doubt those that left it in doubt come last, as in admit.lua.
        """
        status, inspector = self.trace.status, self.inspector
        route = route_for(status.lane, status.template or "", inspector.routes)
        if route is None:
            return ("",)
        if self.trace.via is not None:
            return (self.trace.via,)
        known = {one.key for one in inspector.accounts if one.knows(status.template or "")}
        found = [key for key in route.accounts if key in known]
        if status.attempts and status.attempts[-1].outcome == Outcome.MAYBE_SENT:
            doubts = [one for one in status.attempts if one.outcome == Outcome.MAYBE_SENT]
            since = {one.account or "": one.n for one in doubts}
            found.sort(key=lambda key: since.get(key, 0))
        return tuple(found)

    def stops(self, *, template: bool = True) -> list[Event]:
        """Return the pauses in force that keep it from going; [] if an account may take it.

        Without `template`, its template's do not count.
        """
        found = []
        for key in self.keys:
            scopes = scopes_at(key, self.trace.status.template or "")
            pauses = self.pauses(*scopes if template else scopes[:2])
            if not pauses:
                return []
            found += pauses
        return found

    def pauses(self, *scopes: str) -> list[Event]:
        """Return the pauses of some scopes that are in force, as events."""
        return [
            Event(
                pause.probe_at,
                "pause",
                _(
                    "it waits for the end of the pause of {scope} ({why}); {end}",
                    scope=scope_name(pause.spoken or pause.scope),
                    why=pause_words(pause),
                    end=pause_end(pause),
                ),
            )
            for pause in self.snapshot.pauses
            if pause.scope in scopes and pause.stops(self.trace.status.lane)
        ]


def next_events(context: ForecastContext) -> Iterator[Event]:
    """Yield what happens next, in order."""
    trace = context.trace
    yield from _BY_STATE.get(State(trace.status.state), _ended)(context)
    yield from _callbacks(trace)
    if trace.forgotten_at:
        yield Event(trace.forgotten_at, "forgotten", _("it is removed from the ledger"))


def _queued(context: ForecastContext) -> Iterator[Event]:
    trace = context.trace
    yield from context.stops() or [Event(None, "turn", _position(context)), *_way(context)]
    if trace.unpublished:
        words = _("its wake-up could not be published; the scheduler publishes it at its next run")
        yield Event(None, "wake-up", words)
    elif trace.timer_at and trace.timer_at != trace.expires_at:
        words = _("if no worker has taken it by then, smsq checks whether its wake-up was lost")
        yield Event(trace.timer_at, "wake-up", words + _overdue(trace))
    yield from _ttl(trace)
    if not context.snapshot.broker_answers:
        words = _("the broker does not answer: wake-ups cannot be taken")
        yield Event(None, "broker", words)


def _way(context: ForecastContext) -> Iterator[Event]:
    """Yield over which account it goes, where there are several, and why not over the first."""
    accounts, template = context.inspector.accounts, context.trace.status.template or ""
    if not accounts:
        return
    if not context.keys:
        words = _("no account of its route knows its template: see smsq doctor")
        yield Event(None, "account", words)
        return
    stopped = []
    views = {view.account.key: view for view in context.snapshot.accounts}
    for key in context.keys:
        pauses = context.pauses(*scopes_at(key, template))
        holdup = "" if pauses or key not in views else views[key].holdup
        if not (pauses or holdup):
            break
        stopped += pauses or [Event(None, "account", holdup)]
    names = _(" or ").join(name_of(one, accounts) for one in context.keys)
    yield Event(None, "account", _("it goes over account {names}, in this order", names=names))
    yield from stopped


def _position(context: ForecastContext) -> str:
    lane, snapshot = Lane(context.trace.status.lane), context.snapshot
    oldest = snapshot.lanes[lane].oldest
    if oldest is not None and oldest.id == context.trace.status.id:
        return _("it is the next of lane {lane}; lanes of higher priority go first", lane=lane)
    lanes = list(Lane)
    earlier = lanes[: lanes.index(lane) + 1]
    ahead = sum(snapshot.lanes[name].live[State.QUEUED] for name in earlier) - 1
    if ahead <= 0:
        return _("no other message is ahead of it: it is sent as soon as a worker takes it")
    rate = snapshot.rate.now
    age = _(", the oldest of its lane for {span}", span=span(oldest.age_s)) if oldest else ""
    return ngettext(
        "it waits in its lane: at most {n} message is ahead of it{age}; it takes {span} at "
        "{rate:g}/s",
        "it waits in its lane: at most {n} messages are ahead of it{age}; they take {span} at "
        "{rate:g}/s",
        ahead,
        age=age,
        span=span(ahead / rate),
        rate=rate,
    )


def _deferred(context: ForecastContext) -> Iterator[Event]:
    trace = context.trace
    if trace.in_waiting_room:
        words = _("the pause of its template is over: it continues in a moment")
        yield from context.stops() or [Event(None, "pause", words)]
    elif trace.in_campaign_room:
        name = trace.status.campaign or ""
        words = _("it waits for its campaign: smsq campaign show {name}", name=clean(name))
        yield Event(None, "pause", words)
    else:
        yield Event(trace.timer_at, "resume", _why_then(context) + _overdue(trace))
        yield from context.stops(template=False)
    yield from _ttl(trace)


def _why_then(context: ForecastContext) -> str:
    trace, hours = context.trace, context.bulk_hours
    if trace.timer_at == trace.expires_at:
        return _("its ttl ends before its wait does: it is not sent any more")
    if trace.due_at and trace.due_at > trace.at:
        return _("it is scheduled for then, and joins its lane")
    rests = [trace.number_rests.get(key) for key in context.keys]
    if rests and all(until and until > trace.at for until in rests):
        return _("it continues: a report said that the gateway refuses its number until then")
    if trace.status.attempts:
        return _(_RETRIES.get(trace.status.attempts[-1].outcome or "", N_("it continues")))
    if trace.status.lane == "bulk" and hours and not hours.include(trace.at):
        return _("lane bulk is sent from then (SMSQ_BULK_HOURS)")
    return _("it continues, and joins its lane")


def _sending(context: ForecastContext) -> Iterator[Event]:
    trace = context.trace
    words = _(
        "without a result by then its worker is presumed dead: it is in doubt, and is sent again, "
        "within its budget"
    )
    if trace.holds:
        words = _(
            "without a result by then its worker is presumed dead: it is in doubt, and is held for "
            "an operator"
        )
    yield Event(trace.timer_at, "lease", words + _overdue(trace))


def _accepted(context: ForecastContext) -> Iterator[Event]:
    words = _("until then a delivery report is awaited; without one it ends as unreported")
    yield Event(context.trace.timer_at, "report", words + _overdue(context.trace))


def _held(context: ForecastContext) -> Iterator[Event]:
    trace, name = context.trace, context.trace.status.id
    words = _(
        "you decide: smsq held resend {id} (a possible duplicate), or smsq held drop {id}", id=name
    )
    if trace.expires_at and trace.expires_at <= trace.at:
        words = _("its ttl is over, so it can only be dropped: smsq held drop {id}", id=name)
    yield Event(None, "decision", words)
    yield Event(None, "report", _("a late result or report settles it without you"))


def _ended(context: ForecastContext) -> Iterator[Event]:
    trace = context.trace
    late = _LATE_REPORTS.get(State(trace.status.state))
    if late and trace.report_until:
        # A mid is known for longer than its message is kept.
        until = min(trace.report_until, trace.forgotten_at or trace.report_until)
        yield Event(until, "report", _(late))


def _callbacks(trace: Trace) -> Iterator[Event]:
    if trace.asks_whom:
        yield Event(None, "outcome", _("a worker determines who is to be told of its end"))
    for callback in trace.tellings:
        if callback.next_at:
            kind, state = kind_of(callback)
            words = _(
                "{state} is still to be reported to {receiver}",
                state=state_name(state),
                receiver=receiver(trace, kind),
            )
            if callback.error:
                words += ngettext(
                    "; {n} try, the last: {error}",
                    "; {n} tries, the last: {error}",
                    callback.tries,
                    error=clean(callback.error),
                )
            yield Event(callback.next_at, "outcome", words)


def _ttl(trace: Trace) -> Iterator[Event]:
    if trace.expires_at:
        words = _("if it has not been sent by then its ttl is over, and it ends as expired")
        if trace.otherwise:
            words = _(
                "if it has not been sent again by then its ttl is over, and it ends as failed, "
                "{reason}",
                reason=trace.otherwise,
            )
        yield Event(trace.expires_at, "ttl", words)


def _overdue(trace: Trace) -> str:
    if trace.timer_at is None:
        return ""
    late_s = (trace.at - trace.timer_at).total_seconds()
    if late_s <= LATE_S:
        return ""
    return _(" (overdue for {span}: is a worker running? smsq doctor)", span=span(late_s))


_BY_STATE: Final = {
    State.QUEUED: _queued,
    State.DEFERRED: _deferred,
    State.SENDING: _sending,
    State.ACCEPTED: _accepted,
    State.HELD: _held,
}
