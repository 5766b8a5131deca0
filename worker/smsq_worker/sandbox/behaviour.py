"""What the sandbox can do with one request, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Body(Enum):
    """What the body of a response looks like."""

    DOCUMENTED = auto()
    WITHOUT_MID = auto()
    CODE_AS_TEXT = auto()
    PADDED = auto()
    TRUNCATED = auto()
    EMPTY = auto()
    PAGE = auto()


class Transfer(Enum):
    """How a response is transferred, if at all."""

    AT_ONCE = auto()
    SLOW = auto()
    DRIBBLE = auto()
    CUT = auto()
    SILENT = auto()
    RESET = auto()


class Format(Enum):
    """What the body of a report looks like."""

    JSON = auto()
    BATCH = auto()
    FORM = auto()
    TEXT_WITH_BOM = auto()


@dataclass(frozen=True, slots=True)
class Push:
    """One POST of a report."""

    stat: str = "DELIVRD"
    after: float = 1.0
    """Its time since acceptance, in multiples of the sandbox's report delay."""
    format: Format = Format.JSON
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
    body: Body = Body.DOCUMENTED
    transfer: Transfer = Transfer.AT_ONCE
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
