"""The report that our relay's callers get, in the vendor's own form."""

from __future__ import annotations

import json
from typing import Final

from smsq.contract import State

_OWN_WORDS: Final = {
    State.DELIVERED: "DELIVRD",
    # SMPP's word; the vendor's list has none.
    State.UNREPORTED: "UNKNOWN",
}
_PERHAPS_SENT: Final = {"local:resends", "local:dropped"}
_WITHOUT_REPORT: Final = {
    State.FAILED: "REJECTED",
    State.EXPIRED: "EXPIRED",
    State.CANCELLED: "DELETED",
}


def vendor_notice(
    message_id: str, state: State, stat: str | None, reason: str | None = None
) -> bytes | None:
    """Make the report of an outcome; None where its caller needs none.

    A duplicate's caller was given the first one's id, which has its own. `stat` is the last code
    reported. `reason` names the one that decided, if one did: a later code may have changed
    nothing. A code goes before our own words even where the end was local, because it is all
    that is known of an attempt that may have been sent.
    """
    told = _OWN_WORDS.get(state)
    if state in _WITHOUT_REPORT:
        by, _, code = (reason or "").partition(":")
        without = "UNKNOWN" if reason in _PERHAPS_SENT else _WITHOUT_REPORT[state]
        told = code if by == "report" else stat or without
    if told is None:
        return None
    return json.dumps({"mid": message_id, "stat": told}, separators=(",", ":")).encode()
