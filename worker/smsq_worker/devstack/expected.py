"""How each of the sandbox's outcomes must end in smsq, resends and the wait for a report included.

The demo and the tests hold every message against it.
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

_GIVEN_UP: Final[End] = (State.FAILED, "local:resends")
_DELIVERED: Final[End] = (State.DELIVERED, None)
_UNREPORTED: Final[End] = (State.UNREPORTED, None)

_BY_NAME: Final[dict[str, End]] = {
    "refused-400": (State.FAILED, "gateway:400"),
    "refused-403": (State.FAILED, "gateway:403"),
    "http-500": _GIVEN_UP,
    "http-502": _GIVEN_UP,
    "http-504": _GIVEN_UP,
    "timeout": _GIVEN_UP,
    "reset-after": _GIVEN_UP,
    "reset-before": _GIVEN_UP,
    "garbage": _GIVEN_UP,
    "truncated": _GIVEN_UP,
    "empty": _GIVEN_UP,
    "dribble": _GIVEN_UP,
    "cut": _GIVEN_UP,
    "http-500-after": _GIVEN_UP,
    "no-mid": _UNREPORTED,
    "never": _UNREPORTED,
    "extra-zero": (State.FAILED, "report:MA:0011"),
}


def expected_ends(catalogue: Catalogue) -> dict[str, End]:
    """Give the end for the last four digits of a number, for every row of the sandbox's table."""
    ends = {ORDINARY: _DELIVERED}
    for row in OUTCOMES:
        if row.digits.isdigit():
            ends[row.digits] = _BY_NAME.get(row.name) or _by_stat(catalogue, row.name)
    return ends


def _by_stat(catalogue: Catalogue, name: str) -> End:
    """Conclude from a row that is named after its stat; all other rows are delivered."""
    code = catalogue.get(name.upper().replace("-", ":"))
    if code is None or code.code_class is CodeClass.DELIVERED:
        return _DELIVERED
    if code.code_class in {CodeClass.PENDING, CodeClass.UNKNOWN}:
        return _UNREPORTED
    return State.FAILED, f"report:{code.stat}"
