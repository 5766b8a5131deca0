"""How each of the sandbox's outcomes must end in smsq, after resends and the wait for a report.

The demo and the tests check every message against it.
"""

from __future__ import annotations

from typing import Final

from smsq.contract import State
from smsq_worker.domain.codes import Catalogue, CodeClass
from smsq_worker.sandbox import OUTCOMES

End = tuple[State, str | None]
"""State and reason."""

ORDINARY: Final = "8000"
"""Four digits that the sandbox's table does not list: delivered."""

_NO_RESENDS: Final[End] = (State.FAILED, "local:resends")
_DELIVERED: Final[End] = (State.DELIVERED, None)
_UNREPORTED: Final[End] = (State.UNREPORTED, None)

_BY_NAME: Final[dict[str, End]] = {
    "refused-400": (State.FAILED, "gateway:400"),
    "refused-403": (State.FAILED, "gateway:403"),
    **dict.fromkeys(("http-500", "http-502", "http-504", "http-500-after"), _NO_RESENDS),
    **dict.fromkeys(("timeout", "reset-after", "reset-before", "dribble", "cut"), _NO_RESENDS),
    **dict.fromkeys(("garbage", "truncated", "empty"), _NO_RESENDS),
    **dict.fromkeys(("no-mid", "never"), _UNREPORTED),
    "extra-zero": (State.FAILED, "report:MA:0011"),
}


def expected_ends(catalogue: Catalogue) -> dict[str, End]:
    """Return the end by the last four digits of a number, for every row of the sandbox's table."""
    ends = {ORDINARY: _DELIVERED}
    for row in OUTCOMES:
        if row.digits.isdigit():
            ends[row.digits] = _BY_NAME.get(row.name) or _by_stat(catalogue, row.name)
    return ends


def _by_stat(catalogue: Catalogue, name: str) -> End:
    """Return the end of a row that is named after its stat; all other rows are delivered."""
    code = catalogue.get(name.upper().replace("-", ":"))
    if code is None or code.code_class is CodeClass.DELIVERED:
        return _DELIVERED
    if code.code_class in {CodeClass.PENDING, CodeClass.UNKNOWN}:
        return _UNREPORTED
    return State.FAILED, f"report:{code.stat}"
