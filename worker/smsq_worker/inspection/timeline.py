"""What happened to a message, in plain words: each attempt, wait and report, and the end.

The ledger keeps no log. It has the time of entry, of the beginning of each attempt and of the end,
and each attempt's result; waits are derived from those, and the time of a report is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from smsq.tracking import Attempt
from smsq_worker.domain.accounts import route_for
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.domain.scopes import scopes_at, spoken
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.callback_text import settled_callbacks
from smsq_worker.inspection.code_text import action, class_name, class_words, meaning
from smsq_worker.inspection.events import Event, Story
from smsq_worker.inspection.formatting import (
    clean,
    local_instant,
    pause_words,
    scope_name,
    span,
)
from smsq_worker.inspection.state_text import end_words
from smsq_worker.ledger.message_view import Trace

LONG_S: Final = 1.0
"""Something delayed a first attempt that comes later than this."""

_UNTAKEN: Final = frozenset({Outcome.REFUSED, Outcome.NOT_SENT})
_LEFT: Final[Mapping[str | None, str]] = {
    Outcome.REFUSED: N_("it had refused the message"),
    Outcome.NOT_SENT: N_("it had not taken attempt {n}"),
    Outcome.MAYBE_SENT: N_("it had left attempt {n} in doubt"),
}
"""Why an account was passed over that had an attempt before."""
_ATTEMPTS: Final[Mapping[str | None, str]] = {
    None: N_("no response is recorded: it may or may not have reached the gateway"),
    Outcome.REFUSED: N_("the gateway refused it"),
    Outcome.NOT_SENT: N_("the gateway certainly did not take it"),
    Outcome.MAYBE_SENT: N_("it may or may not have reached the gateway"),
}


def past_events(story: Story) -> Iterator[Event]:
    """Yield what happened, in order."""
    trace = story.trace
    yield Event(trace.status.enqueued_at, "enqueued", _enqueued(story))
    yield from _attempts(story)
    if trace.held_since:
        words = _("held: nobody can know whether it was sent, and its policy is hold")
        yield Event(trace.held_since, "held", words)
    if trace.status.final:
        yield Event(trace.status.finished_at, "end", end_words(trace, story.catalogues))
        yield from settled_callbacks(story)


def _enqueued(story: Story) -> str:
    trace = story.trace
    lane = trace.status.lane
    words = _("enqueued in lane {lane}", lane=lane)
    if trace.caller:
        words = _(
            "enqueued in lane {lane}, by the relay's caller {caller}",
            lane=lane,
            caller=clean(trace.caller),
        )
    if trace.due_at:
        words += _(", not to be sent before {time}", time=local_instant(trace.due_at))
    if trace.via is not None and story.inspector.accounts:
        words += _(", for account {name} alone", name=clean(story.account(trace.via)))
    if trace.status.reference:
        words += _("; reference: {text}", text=clean(trace.status.reference))
    return words


def _attempts(story: Story) -> Iterator[Event]:
    attempts = story.trace.status.attempts
    if not attempts:
        return
    if dropped := attempts[-1].n - len(attempts):
        words = ngettext(
            "{n} earlier attempt is no longer kept: the gateway did not take it",
            "{n} earlier attempts are no longer kept: the gateway took none of them",
            dropped,
        )
        yield Event(None, "forgotten", words)
    if attempts[0].n == 1:
        yield from _first_wait(story, attempts[0])
    yield from _attempt_events(story, attempts[0])
    for before, attempt in pairwise(attempts):
        yield Event(None, "wait", _again(story, before, attempt))
        yield from _attempt_events(story, attempt)


def _attempt_events(story: Story, attempt: Attempt) -> Iterator[Event]:
    trace, account = story.trace, story.account(attempt.account)
    result = _result(trace, attempt)
    words = _("attempt {n}: {result}", n=attempt.n, result=result)
    if account:
        yield from _passed_over(story, attempt)
        words = _(
            "attempt {n}, over account {account}: {result}",
            n=attempt.n,
            account=clean(account),
            result=result,
        )
    yield Event(attempt.started_at, "call", words)
    if attempt.stat:
        yield Event(None, "report", _report(trace, attempt, story.catalogues.of(attempt.account)))


def _passed_over(story: Story, attempt: Attempt) -> Iterator[Event]:
    """Yield why the accounts before that of an attempt were passed over, as far as it is known."""
    status = story.trace.status
    route = route_for(status.lane, status.template or "", story.inspector.routes)
    if (
        route is None
        or route.weights
        or story.trace.via is not None
        or (attempt.account or "") not in route.accounts
    ):
        return
    before = next((one for one in status.attempts if one.n == attempt.n - 1), None)
    # The result of the attempt before it has its own line already.
    told = before.account or "" if before and before.outcome in _UNTAKEN else None
    for key in route.accounts[: route.accounts.index(attempt.account or "")]:
        if key == told:
            continue
        words = _(
            "account {name} was passed over: {why}",
            name=clean(story.account(key)),
            why=_why_passed_over(story, attempt, key),
        )
        yield Event(None, "account", words)


def _why_passed_over(story: Story, attempt: Attempt, key: str) -> str:
    status = story.trace.status
    account = next((one for one in story.inspector.accounts if one.key == key), None)
    if account and not account.knows(status.template or ""):
        return _("it does not know the template")
    earlier = [one for one in status.attempts if one.n < attempt.n and (one.account or "") == key]
    if earlier and (words := _LEFT.get(earlier[-1].outcome)):
        return _(words, n=earlier[-1].n)
    return _what_stopped(story, attempt, key) or _(
        "it was paused, in an outage, silent, or had no slot in time; which of them is not recorded"
    )


def _what_stopped(story: Story, attempt: Attempt, key: str) -> str:
    """Return what kept a message from an account, as far as what is known now tells it."""
    scopes = scopes_at(key, story.trace.status.template or "")
    for pause in story.pauses:
        if pause.scope in scopes and pause.since <= attempt.started_at:
            return _("it was paused ({why})", why=pause_words(pause))
    rests = story.trace.number_rests.get(key)
    if rests and rests > attempt.started_at:
        time = local_instant(rests)
        return _("a report said that it takes nothing for the number until {time}", time=time)
    resumed = (story.trace.resumed.get(scope) for scope in scopes)
    until = next((at for at in resumed if at and at > attempt.started_at), None)
    return _("it may have been paused until {time}", time=local_instant(until)) if until else ""


def _first_wait(story: Story, attempt: Attempt) -> Iterator[Event]:
    trace = story.trace
    begun = max(trace.status.enqueued_at, trace.due_at or trace.status.enqueued_at)
    only = None if trace.via is None else scopes_at(trace.via, trace.status.template or "")
    waited_s = (attempt.started_at - begun).total_seconds()
    if waited_s <= LONG_S:
        return
    pauses = [
        _(
            "{scope} was paused until {time}",
            scope=scope_name(spoken(scope, story.inspector.accounts)),
            time=local_instant(at),
        )
        for scope, at in trace.resumed.items()
        if begun < at <= attempt.started_at and (only is None or scope in only)
    ]
    unknown = _("it is not recorded whether for the rate limit, a time or a pause")
    why = _(", ").join(pauses) or unknown
    words = _("waited {span} for its first attempt: {why}", span=span(waited_s), why=why)
    yield Event(None, "wait", words)


def _again(story: Story, before: Attempt, attempt: Attempt) -> str:
    later_s = (attempt.started_at - before.started_at).total_seconds()
    later = span(later_s) if later_s > LONG_S else _("{n:.2f} s", n=later_s)
    moved = (before.account or "") != (attempt.account or "")
    if moved and before.outcome == Outcome.REFUSED:
        return _("{span} later tried over another account, as the last refused it", span=later)
    if moved and before.outcome == Outcome.NOT_SENT:
        return _("{span} later tried over another account, as the last did not take it", span=later)
    why = {
        Outcome.REFUSED: _("tried again: the account was paused, so its refusal did not count"),
        Outcome.NOT_SENT: _(
            "tried again, as the gateway certainly did not take the attempt before"
        ),
        Outcome.MAYBE_SENT: _(
            "sent again, though the attempt before may have reached the gateway: "
            "a possible duplicate"
        ),
    }.get(Outcome(before.outcome or Outcome.MAYBE_SENT))
    if why is None:
        why = _because_of(before, story.catalogues.of(before.account))
    return _("{span} later {why}", span=later, why=why)


def _because_of(before: Attempt, catalogue: Catalogue) -> str:
    """Return why a message is sent again that the gateway had accepted."""
    if not before.stat:
        return _("sent again")
    if catalogue.classify(before.stat).may_have_been_sent:
        return _("sent again because of report {stat}: a possible duplicate", stat=before.stat)
    return _("sent again because of report {stat}", stat=before.stat)


def _result(trace: Trace, attempt: Attempt) -> str:
    is_last = attempt == trace.status.attempts[-1]
    if attempt.outcome is None and is_last and trace.status.state == "sending":
        return _("in progress")
    if attempt.outcome == Outcome.ACCEPTED:
        return _accepted(trace, attempt, is_last=is_last)
    is_own = attempt.outcome == Outcome.REFUSED and (attempt.detail or "").startswith("local:")
    words = _("it certainly was not sent") if is_own else _(_ATTEMPTS[attempt.outcome])
    words += _detail(attempt)
    return _("{words}, mid {mid}", words=words, mid=attempt.mid) if attempt.mid else words


def _accepted(trace: Trace, attempt: Attempt, *, is_last: bool) -> str:
    if not attempt.mid:
        words = _("the gateway accepted it, but returned no mid: no report can be matched")
        return words + _detail(attempt)
    accepted = trace.status.accepted_at
    words = _("the gateway accepted it, mid {mid}", mid=attempt.mid)
    if accepted and is_last and accepted >= attempt.started_at:
        words = _(
            "the gateway accepted it after {n:.2f} s, mid {mid}",
            n=(accepted - attempt.started_at).total_seconds(),
            mid=attempt.mid,
        )
    if attempt.mid in trace.reused_mids:
        words += _(", which it gave to another message too: no report can be matched")
    return words


def _detail(attempt: Attempt) -> str:
    return _(" ({text})", text=clean(attempt.detail)) if attempt.detail else ""


def _report(trace: Trace, attempt: Attempt, catalogue: Catalogue) -> str:
    code = catalogue.classify(attempt.stat or "")
    overtaken = attempt != trace.status.attempts[-1] and code.code_class != CodeClass.DELIVERED
    does = _("none, as a later attempt counts") if overtaken else action(code)
    return "\n".join(
        (
            _("report {stat}: {meaning}", stat=code.stat, meaning=meaning(code)),
            _(
                "  class {name}: {meaning}",
                name=class_name(code.code_class),
                meaning=class_words(code.code_class),
            ),
            _("  action: {action}", action=does),
        )
    )
