"""What a message's state means, and no more than is known: of a call in doubt nothing is."""

from __future__ import annotations

from typing import Final

from smsq.contract import State
from smsq.tracking import Attempt, Status
from smsq_worker.domain.codes import Catalogues, Code
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import N_, _, ngettext

_STATES: Final = {
    State.QUEUED: N_("it waits in its lane"),
    State.SENDING: N_("a worker is submitting it to the gateway"),
    State.DEFERRED: N_("it waits until a set time"),
    State.ACCEPTED: N_("the gateway accepted it, a delivery report is awaited"),
    State.HELD: N_("nobody can know whether it was sent, and an operator decides"),
    State.DELIVERED: N_("a report says that it reached the phone"),
    State.UNREPORTED: N_("the gateway accepted it, and no final report came in time"),
    State.DUPLICATE: N_("another message has its key, and this one was not sent"),
}


def state_words(status: Status, catalogues: Catalogues) -> str:
    """Return what a state means for this message, and no more than is known."""
    if status.is_test:
        return _("to a test number, not sent; all but the call of the gateway is as for any other")
    state = State(status.state)
    if state in _STATES:
        return _(_STATES[state])
    if state == State.EXPIRED:
        return _("its ttl ran out; {certainty}", certainty=_certainty(status, catalogues))
    if state == State.CANCELLED:
        return _("it was cancelled; {certainty}", certainty=_certainty(status, catalogues))
    if state == State.FAILED:
        return _("smsq does not try again; {certainty}", certainty=_certainty(status, catalogues))
    return _("a state of a newer release, which this one does not know")


def _certainty(status: Status, catalogues: Catalogues) -> str:
    """Return what is known of whether a message that has ended reached the phone."""
    if status.certainly_not_sent:
        return _("it certainly was not sent")
    said = ""
    if _reported_by(status):
        said = _("a report says that it was not delivered")
        if last_report(status, catalogues).may_have_been_sent:
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


def last_report(status: Status, catalogues: Catalogues) -> Code:
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
