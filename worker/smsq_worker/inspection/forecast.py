"""What happens to a message next, and when: from its timer, the pauses, the rate and its lane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from smsq.contract import Lane, State
from smsq_worker.domain.accounts import route_for
from smsq_worker.domain.scopes import scopes_at
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.callback_text import kind_of, receiver
from smsq_worker.inspection.events import Event, Story
from smsq_worker.inspection.formatting import clean, pause_whole, span, state_name
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
_HOURS: Final = N_("lane bulk is sent from then (SMSQ_BULK_HOURS)")
_TO_DELIVERED: Final = N_("until then a late report of its delivery would still make it delivered")
_LATE_REPORTS: Final[Mapping[State, str]] = {
    State.FAILED: _TO_DELIVERED,
    State.UNREPORTED: N_("until then a late report still changes its state"),
    State.CANCELLED: _TO_DELIVERED,
}


def next_events(story: Story) -> Iterator[Event]:
    """Yield what happens next, in order."""
    trace = story.trace
    yield from _BY_STATE.get(State(trace.status.state), _ended)(story)
    yield from _callbacks(trace)
    if trace.forgotten_at:
        yield Event(trace.forgotten_at, "forgotten", _("it is removed from the ledger"))


def _queued(story: Story) -> Iterator[Event]:
    trace = story.trace
    stops = [*_stops(story), *_later(story, trace.at)]
    yield from stops or [Event(None, "turn", _position(story)), *_way(story)]
    if trace.unpublished:
        words = _("its wake-up could not be published; the scheduler publishes it at its next run")
        yield Event(None, "wake-up", words)
    elif trace.timer_at and trace.timer_at != trace.expires_at:
        words = _("if no worker has taken it by then, smsq checks whether its wake-up was lost")
        yield Event(trace.timer_at, "wake-up", words + _overdue(trace))
    yield from _ttl(trace)
    if not story.snapshot.broker_answers:
        words = _("the broker does not answer: wake-ups cannot be taken")
        yield Event(None, "broker", words)


def _later(story: Story, at: datetime) -> Iterator[Event]:
    """Yield what else keeps it from going at a time: its campaign, and the hours of lane bulk."""
    trace, hours = story.trace, story.settings.bulk_hours
    if trace.is_campaign_paused:
        yield Event(None, "pause", _for_its_campaign(trace))
    if trace.status.lane == "bulk" and hours and not hours.include(at):
        yield Event(hours.opening(at), "resume", _(_HOURS))


def _for_its_campaign(trace: Trace) -> str:
    return _(
        "it waits for its campaign, which is paused or slowed: smsq campaign show {name}",
        name=clean(trace.status.campaign or ""),
    )


def _way(story: Story) -> Iterator[Event]:
    """Yield over which account it goes, where there are several, and why not over the first."""
    if not story.inspector.accounts:
        return
    keys, template = _keys(story), story.trace.status.template or ""
    if not keys:
        words = _("no account of its route knows its template: see smsq doctor")
        yield Event(None, "account", words)
        return
    stopped = []
    views = {view.account.key: view for view in story.snapshot.accounts}
    for key in keys:
        pauses = _pauses(story, *scopes_at(key, template))
        holdup = "" if pauses or key not in views else views[key].holdup
        if not (pauses or holdup):
            break
        stopped += pauses or [Event(None, "account", holdup)]
    names = _(" or ").join(story.account(one) for one in keys)
    yield Event(None, "account", _("it goes over account {names}, in this order", names=names))
    yield from stopped


def _position(story: Story) -> str:
    lane, snapshot = Lane(story.trace.status.lane), story.snapshot
    oldest = snapshot.lanes[lane].oldest
    if oldest is not None and oldest.id == story.trace.status.id:
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


def _keys(story: Story) -> Sequence[str]:
    """Return the keys of the accounts that may take it, in the order of its route.

    After a doubt those that left it in doubt come last, as in guards_of_several.lua.
    """
    status, inspector = story.trace.status, story.inspector
    route = route_for(status.lane, status.template or "", inspector.routes)
    if route is None:
        return [""]
    if story.trace.via is not None:
        return [story.trace.via]
    known = {one.key for one in inspector.accounts if one.knows(status.template or "")}
    found = [key for key in route.accounts if key in known]
    if status.attempts and status.attempts[-1].outcome == Outcome.MAYBE_SENT:
        doubts = [one for one in status.attempts if one.outcome == Outcome.MAYBE_SENT]
        since = {one.account or "": one.n for one in doubts}
        found.sort(key=lambda key: since.get(key, 0))
    return found


def _stops(story: Story, *, template: bool = True) -> list[Event]:
    """Return the pauses in force that keep it from going; [] if an account may take it.

    Without `template`, its template's do not count.
    """
    found = []
    for key in _keys(story):
        scopes = scopes_at(key, story.trace.status.template or "")
        pauses = _pauses(story, *scopes if template else scopes[:2])
        if not pauses:
            return []
        found += pauses
    return found


def _pauses(story: Story, *scopes: str) -> list[Event]:
    """Return the pauses of some scopes that are in force, as events."""
    return [
        Event(
            pause.probe_at,
            "pause",
            _("it waits for the end of the pause of {words}", words=pause_whole(pause)),
        )
        for pause in story.snapshot.pauses
        if pause.scope in scopes and pause.stops(story.trace.status.lane)
    ]


def _deferred(story: Story) -> Iterator[Event]:
    trace = story.trace
    if trace.in_waiting_room:
        words = _("the pause of its template is over: it continues in a moment")
        yield from _stops(story) or [Event(None, "pause", words)]
    elif trace.in_campaign_room:
        yield Event(None, "pause", _for_its_campaign(trace))
    else:
        yield Event(trace.timer_at, "resume", _why_then(story) + _overdue(trace))
        yield from _stops(story, template=False)
        if trace.timer_at and trace.timer_at != trace.expires_at:
            yield from _later(story, max(trace.at, trace.timer_at))
    yield from _ttl(trace)


def _why_then(story: Story) -> str:
    trace, hours = story.trace, story.settings.bulk_hours
    if trace.timer_at == trace.expires_at:
        return _("its ttl ends before its wait does: it is not sent any more")
    if trace.due_at and trace.due_at > trace.at:
        return _("it is scheduled for then, and joins its lane")
    rests = [trace.number_rests.get(key) for key in _keys(story)]
    if rests and all(until and until > trace.at for until in rests):
        return _("it continues: a report said that the gateway refuses its number until then")
    if trace.status.attempts:
        return _(_RETRIES.get(trace.status.attempts[-1].outcome or "", N_("it continues")))
    if trace.status.lane == "bulk" and hours and not hours.include(trace.at):
        return _(_HOURS)
    return _("it continues, and joins its lane")


def _sending(story: Story) -> Iterator[Event]:
    trace = story.trace
    words = _(
        "without a result by then its worker is presumed dead: it is in doubt, and is sent again, "
        "within its budget"
    )
    if trace.holds:
        words = _(
            "without a result by then its worker is presumed dead: it is in doubt, and is held for "
            "an operator"
        )
    if trace.is_cancelled:
        words = _(
            "without a result by then its worker is presumed dead: it is in doubt, and as it was "
            "cancelled it ends as failed, local:cancelled"
        )
    yield Event(trace.timer_at, "lease", words + _overdue(trace))


def _accepted(story: Story) -> Iterator[Event]:
    words = _("until then a delivery report is awaited; without one it ends as unreported")
    yield Event(story.trace.timer_at, "report", words + _overdue(story.trace))


def _held(story: Story) -> Iterator[Event]:
    trace, name = story.trace, story.trace.status.id
    words = _(
        "you decide: smsq held resend {id} (a possible duplicate), or smsq held drop {id}", id=name
    )
    if trace.expires_at and trace.expires_at <= trace.at:
        words = _("its ttl is over, so it can only be dropped: smsq held drop {id}", id=name)
    yield Event(None, "decision", words)
    yield Event(None, "report", _("a late result or report settles it without you"))


def _ended(story: Story) -> Iterator[Event]:
    trace = story.trace
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
