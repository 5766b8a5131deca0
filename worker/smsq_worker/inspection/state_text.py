"""What a message's state and end mean, and no more than is known: of a call in doubt nothing is."""

from __future__ import annotations

from typing import Final

from smsq.contract import State
from smsq.tracking import Attempt, Status, key_holder
from smsq_worker.domain.codes import Catalogues, Code
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import N_, _, ngettext
from smsq_worker.inspection.code_text import meaning
from smsq_worker.inspection.formatting import clean, local_instant, state_name
from smsq_worker.ledger.message_view import Trace
from smsq_worker.vendors.oneoc.relay_request import WRONG_SECRET

_STATES: Final = {
    State.QUEUED: N_("it waits in its lane"),
    State.SENDING: N_("a worker is submitting it to the gateway"),
    State.DEFERRED: N_("it waits for a set time, or for the end of a pause"),
    State.ACCEPTED: N_("the gateway accepted it, a delivery report is awaited"),
    State.HELD: N_("nobody can know whether it was sent, and an operator decides"),
    State.DELIVERED: N_("a report says that it reached the phone"),
    State.UNREPORTED: N_("the gateway accepted it, and no final report came in time"),
    State.DUPLICATE: N_("another message has its key, and this one was not sent"),
}
_ENDS: Final = {
    State.EXPIRED: N_("its ttl ran out; {certainty}"),
    State.CANCELLED: N_("it was cancelled; {certainty}"),
    State.FAILED: N_("smsq does not try again; {certainty}"),
}
_REASONS: Final = {
    "local:campaign-cancelled": N_("its campaign had been cancelled"),
    "local:cancelled": N_("it was cancelled, but an earlier attempt may have been sent"),
    "local:dropped": N_("an operator dropped it while it was held"),
    "local:frequency": N_("too many messages were sent to its number"),
    "local:key-conflict": N_("its key belongs to a message with another number or template"),
    "local:invalid": N_("it broke the rules of a message"),
    "local:no-account": N_("no account of its route has its template, see smsq accounts"),
    "local:lost": N_("Redis lost its number and code: it must not evict, see smsq doctor"),
    "local:resends": N_(
        "its attempts may or may not have been sent, and no resend was left "
        "(SMSQ_MAX_RESENDS, or its ttl)"
    ),
    "local:suppressed": N_("its number is suppressed, see smsq suppressed"),
    "local:unfit": N_("its code has not the variables that the vendor needs"),
}


def state_words(status: Status, catalogues: Catalogues) -> str:
    """Return what a state means for this message, and no more than is known."""
    if status.is_test:
        return _("to a test number, not sent; all but the call of the gateway is as for any other")
    state = State(status.state)
    if state in _STATES:
        return _(_STATES[state])
    if state in _ENDS:
        return _(_ENDS[state], certainty=_certainty(status, catalogues))
    return _("a state of a newer release, which this one does not know")


def end_words(trace: Trace, catalogues: Catalogues) -> str:
    """Return how a message has ended, and why."""
    status = trace.status
    words = _(
        "{state}: {meaning}",
        state=state_name(status.state),
        meaning=state_words(status, catalogues),
    )
    if status.reason:
        words += _("; reason {reason}", reason=clean(status.reason))
        words += _reason(trace, catalogues)
    if status.detail:
        words += _("; {detail}", detail=clean(status.detail))
    if _was_the_secret(status):
        words += _("; {answer} usually means that SMSQ_APP_SECRET is wrong", answer=WRONG_SECRET)
    return words


def _was_the_secret(status: Status) -> bool:
    last = status.attempts[-1] if status.attempts else None
    return bool(
        last and last.outcome == Outcome.REFUSED and WRONG_SECRET in f"{last.detail}{status.detail}"
    )


def _reason(trace: Trace, catalogues: Catalogues) -> str:
    reason = trace.status.reason or ""
    if holder := key_holder(reason):
        return _(": the first message with its key, see smsq explain {id}", id=clean(holder))
    if reason.startswith("report:"):
        return _(": {meaning}", meaning=meaning(_last_report(trace.status, catalogues)))
    if reason.startswith("gateway:"):
        return _(": the gateway's own response to the attempt")
    words = _(": {meaning}", meaning=_(_REASONS[reason])) if reason in _REASONS else ""
    if trace.status.allowed_at:
        words += _("; it would be allowed from {time}", time=local_instant(trace.status.allowed_at))
    return words


def _certainty(status: Status, catalogues: Catalogues) -> str:
    """Return what is known of whether a message that has ended reached the phone."""
    if status.certainly_not_sent:
        return _("it certainly was not sent")
    said = ""
    if _reported_by(status):
        said = _("a report says that it was not delivered")
        if _last_report(status, catalogues).may_have_been_sent:
            said = _("its last report does not rule out that it was delivered")
    doubts = sum(_is_in_doubt(attempt) for attempt in status.attempts)
    if not doubts:
        return said or _("it is not known whether it was delivered")
    if not said:
        return ngettext(
            "it is not known whether it was delivered: one call may have reached the phone",
            "it is not known whether it was delivered: {n} calls may each have reached the phone",
            doubts,
        )
    return ngettext(
        "{said}; of another call nothing is known, and it may have reached the phone",
        "{said}; of {n} other calls nothing is known, and each may have reached the phone",
        doubts,
        said=said,
    )


def _last_report(status: Status, catalogues: Catalogues) -> Code:
    """Return the code that ended a message, as the account means it that reported."""
    stat = _reported_by(status)
    accounts = [one.account for one in status.attempts if one.stat == stat]
    return catalogues.of(accounts[-1] if accounts else None).classify(stat)


def _reported_by(status: Status) -> str:
    """Return the stat that ended a message, "" where no report did."""
    reason = status.reason or ""
    return reason.removeprefix("report:") if reason.startswith("report:") else ""


def _is_in_doubt(attempt: Attempt) -> bool:
    return attempt.outcome in {None, Outcome.MAYBE_SENT} or (
        attempt.outcome == Outcome.ACCEPTED and not attempt.stat
    )
