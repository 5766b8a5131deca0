"""What the sandbox can do with one request, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
