"""What the sandbox can do with a request, or with all of an account, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Body = Literal["documented", "no mid", "code as text", "padded", "truncated", "empty", "page"]
"""What the body of a response looks like; a page is HTML."""
Transfer = Literal["at once", "slow", "dribble", "cut", "silent", "reset"]
"""How a response is transferred, if at all."""
Format = Literal["json", "batch", "form", "text with bom"]
"""What the body of a report looks like."""


@dataclass(frozen=True, slots=True)
class Push:
    """One POST of a report."""

    stat: str = "DELIVRD"
    after: float = 1.0
    """Its time since acceptance, in multiples of the sandbox's report delay."""
    format: Format = "json"
    own_mid: bool = True
    """Without it the report is about a mid that was never given out."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What happens to one request: whether it is accepted, the response and the reports."""

    accepts: bool = True
    code: int = 200
    """In the JSON, like `msg`; `status` is HTTP's."""
    msg: str = "ok"
    status: int = 200
    retry_after_s: int | None = None
    body: Body = "documented"
    transfer: Transfer = "at once"
    pushes: tuple[Push, ...] = (Push(),)
    """Sent in this order, and only if the request was accepted."""
    report_first: bool = False
    """Whether the response waits until the receiver has taken the reports."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table: the last four digits of a number, and what they bring about."""

    digits: str
    name: str
    words: str
    first: Behaviour
    """What happens to the number's first request."""
    later: Behaviour


NORMAL: Final = "normal"
"""Each number does what its last four digits say."""
DOWN: Final = "down"
"""Nothing listens: connections are refused, and open ones are closed."""

# What can be wrong with an account as a whole, whatever its numbers' digits say.
MOODS: Final[Mapping[str, Behaviour | None]] = {
    NORMAL: None,
    DOWN: None,
    "silent": Behaviour(accepts=False, transfer="silent"),
    "503": Behaviour(accepts=False, status=503, body="page"),
    # As with a wrong secret.
    "refused": Behaviour(accepts=False, code=400, msg="校验失败"),
    "no-balance": Behaviour(pushes=(Push("MA:0015"),)),
    "garbage": Behaviour(accepts=False, body="page"),
}
"""What happens to every request; None where its number decides, or none arrives."""
