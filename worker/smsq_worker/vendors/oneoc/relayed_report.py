"""The report that the relay's callers get, in the vendor's own form."""

from __future__ import annotations

import json
from typing import Final

from smsq.contract import State
from smsq_worker.domain.code_spelling import normalise

_STATS: Final = {
    State.DELIVERED: "DELIVRD",
    # SMPP's word; the vendor's list has none.
    State.UNREPORTED: "UNKNOWN",
}
_NOT_FINAL: Final = "ACCEPTD"
_MAYBE_SENT: Final = {"local:resends", "local:dropped", "local:cancelled"}
_STATS_WITHOUT_REPORT: Final = {
    State.FAILED: "REJECTED",
    State.EXPIRED: "EXPIRED",
    State.CANCELLED: "DELETED",
}


def vendor_notice(
    message_id: str,
    state: State,
    stat: str | None,
    reason: str | None = None,
    raw: str | None = None,
) -> bytes | None:
    """Return the report of an outcome; None where its caller needs none.

    A duplicate's caller was given the id of the first message, which has its own report. `stat` is
    the last code reported. `reason` names the code that decided, if one did: a later code may have
    changed nothing. A code takes precedence over our own words even where the end was local,
    because it is all that is known of an attempt that may have been sent. A code that settled
    nothing is passed on too: the caller may know what this gateway means by it. `raw` is the code
    as the gateway wrote it, which is what its clients look for.
    """
    reported = _STATS.get(state)
    if state is State.UNREPORTED and stat and stat != _NOT_FINAL:
        reported = stat
    if state in _STATS_WITHOUT_REPORT:
        by, _, code = (reason or "").partition(":")
        unreported = "UNKNOWN" if reason in _MAYBE_SENT else _STATS_WITHOUT_REPORT[state]
        reported = code if by == "report" else stat or unreported
    if reported is None:
        return None
    if raw and state is not State.DELIVERED and normalise(raw) == reported:
        reported = raw
    return json.dumps({"mid": message_id, "stat": reported}, separators=(",", ":")).encode()
