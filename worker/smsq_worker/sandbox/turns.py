"""What the sandbox can do with one call, as data: accept it or not, answer, report.

An Outcome has a Turn for the first call of a number and one for every later call.
A Turn is an Answer and the Pushes (POSTs of a report) that follow when the call was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Shape(Enum):
    """What the body of an answer looks like."""

    DOCUMENTED = auto()
    WITHOUT_MID = auto()
    CODE_AS_TEXT = auto()
    PADDED = auto()
    TRUNCATED = auto()
    EMPTY = auto()
    PAGE = auto()


class Manner(Enum):
    """How an answer travels, if it does."""

    AT_ONCE = auto()
    SLOW = auto()
    DRIBBLE = auto()
    CUT = auto()
    SILENT = auto()
    RESET = auto()


class Style(Enum):
    """What the body of a report looks like."""

    JSON = auto()
    BATCH = auto()
    FORM = auto()
    TEXT_WITH_BOM = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a send; `code` and `msg` are the JSON's, `status` is HTTP's."""

    code: int = 200
    msg: str = "ok"
    status: int = 200
    retry_after_s: int | None = None
    shape: Shape = Shape.DOCUMENTED
    manner: Manner = Manner.AT_ONCE


@dataclass(frozen=True, slots=True)
class Push:
    """One POST of a report.

    `after` is its time since acceptance, in multiples of the sandbox's report delay.
    With `own_mid` off it is about a mid that was never given out.
    """

    stat: str = "DELIVRD"
    after: float = 1.0
    style: Style = Style.JSON
    own_mid: bool = True


@dataclass(frozen=True, slots=True)
class Turn:
    """What happens to one call; `pushes` go out in this order, and only if it was accepted.

    With `report_first` the answer waits until the receiver has taken the reports.
    """

    answer: Answer = Answer()
    accepts: bool = True
    pushes: tuple[Push, ...] = (Push(),)
    report_first: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of the table: the last four digits of a number, and what they bring about."""

    digits: str
    name: str
    words: str
    first: Turn
    later: Turn

    def turn(self, call: int) -> Turn:
        """Return what happens to the number's call number `call`, counted from 1."""
        return self.first if call == 1 else self.later
