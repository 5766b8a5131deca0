"""What the acts on messages take and return: admissions, results, reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from smsq.contract import Lane, State
from smsq_worker.domain.states import Lanes, Outcome

Decision = Literal["resend", "drop"]

CLAIM_AT_MOST = 200
BATCH = 100
"""How many messages one wake-up of the scheduler is for, at most."""
FEW = 4
"""Up to this many messages get a wake-up each: a batch of them would not be cheaper."""
REPORTS_PER_MID = 16
INBOX_UNKNOWN = 10_000
"""How many reports may wait in the inbox before others are refused whose mid no message has."""
INBOX_AT_MOST = 200_000
"""How many may wait in all."""
WOKEN_AT_ONCE = 2 * INBOX_UNKNOWN
"""Up to how many get a wake-up as they come: those beyond wait for their time."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message may be sent now; `attempt` is the fencing number to record the answer with."""

    attempt: int
    phone: str
    """"" where no key at hand opens the payload: then there is nothing to send."""
    template: str
    code: str
    departs_at: float | None
    """By time.monotonic(); None where no other attempt is near."""
    trace: str | None = None
    """W3C traceparent; None where it is not traced."""
    begun: int = 0
    """The ledger's time of this admission in ms, which tells it from another of the same number."""
    is_safe: bool = True
    """Whether as many replicas as required hold this admission; the attempt waits for that."""
    lease_ends: float = math.inf
    """By `boottime.now_s`; not later than the ledger lets another attempt begin."""
    is_test: bool = False
    """Whether it is to a test number: the gateway is not called."""
    account: str = ""
    """The key of the account that is to send it, see domain/accounts.py."""
    template_there: str = ""
    """What that account calls the template, where that is another name."""

    def __repr__(self) -> str:
        return f"Admitted(attempt={self.attempt})"


@dataclass(frozen=True, slots=True)
class RetryLater:
    """A message may be sent later: ask again then."""

    seconds: float
    turn: str = ""
    """The slot that has been booked for it, which the next `admit` must name; "" for none."""
    alone: bool = False
    """Whether others of its lane, that came later, may go before it: through another account."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message is not sent by this wake-up.

    `why` is unknown, copy, expired, ended, deferred, bad (it was set aside), or paused: then the
    wake-up is given back.
    """

    why: str
    state: State | None


Admission: TypeAlias = Admitted | RetryLater | Rejected


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt."""

    message_id: str
    attempt: int
    outcome: Outcome
    detail: str
    mid: str = ""
    wait_s: float = 0
    """How long to wait before another attempt, should there be one."""
    trouble: bool = False
    """The gateway is in trouble now; with `too_fast`, as its answer says."""
    too_fast: bool = False
    begun: int = 0
    """As in Admitted; 0 where it is not known."""
    account: str = ""
    """As in Admitted."""
    scope: str = ""
    """Of a refusal: where its cause lies, as in domain/codes.py; "" where that is not clear.
    Of one that was not sent: "worker" where no account has to do with that."""
    in_hand: bool = False
    """Whether the process that records it goes on with a message that is queued again at once."""


class TakenIn(NamedTuple):
    """What became of reports (mid, stat) on their way into the inbox; the others wait in it."""

    wake: list[tuple[str, str]]
    """These are new in it, and to be woken up by the caller."""
    refused: list[tuple[str, str]]
    """For these there was no room."""


class OtherRate(NamedTuple):
    """A rate of an account in other workers' settings than this one's, as they were written."""

    account: str
    limit: str
    burst: str
    own_limit: str
    own_burst: str


@dataclass(frozen=True, slots=True)
class Due:
    """Wake-ups to publish, and when to claim again; None where no message waits for anything."""

    wake: tuple[tuple[str, Lane], ...]
    next_s: float | None
    lanes: Lanes = "open"
    rate: float = 0
    more: bool = False
    """Whether more is due than was taken at once."""
    woken: int = 0
    """How many the claim has woken up itself."""
    closed: frozenset[Lane] = frozenset()
    """Lanes for which no account sends, while others are open."""
    other_rates: tuple[OtherRate, ...] = ()
    """What whoever claimed before this worker has in its settings, where that differs."""
