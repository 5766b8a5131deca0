"""What happened to a message: `status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, cast

from smsq import keys
from smsq.campaigns import came_to_nothing, reading_apparent
from smsq.compaction import unfolded
from smsq.connection import Client, mapped_errors, perform
from smsq.contract import FINAL, LaneName, State, StateName
from smsq.ids import is_id
from smsq.outcomes import at
from smsq.steps import Steps, abreast, answered, as_dict


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to submit a message to the gateway."""

    n: int
    """Counted from 1."""
    started_at: datetime
    mid: str | None
    """The gateway's id for it, which reports name; None where the gateway gave none."""
    outcome: str | None
    """accepted, refused, not_sent, maybe_sent; None while the attempt is under way."""
    stat: str | None
    """The last stat code that a report gave for this attempt."""
    detail: str | None
    """What the gateway or the network answered, in a word or two."""

    @property
    def account(self) -> str | None:
        """The account that made it, where there are several; None of the first of them."""
        return None


@dataclass(frozen=True, slots=True)
class AccountsAttempt(Attempt):
    """An attempt that names its account: no other has this field, so that none shows it."""

    account: str


@dataclass(frozen=True, slots=True)
class Status:
    """A message as the ledger knows it. All times are aware, in UTC.

    docs/reference/states.md lists states and reasons.
    """

    id: str
    state: StateName
    """Where it is, such as "queued" or "delivered".

    Of a later release maybe another text, which no checker of types knows."""
    lane: LaneName
    template: str | None
    phone: str | None
    """Masked: 138****8000."""
    reason: str | None
    """Who ended it and why: "gateway:400", "report:MA:0001", "local:..."; None where nobody did."""
    stat: str | None
    """The last stat code of a delivery report; docs/reference/codes.md lists them."""
    detail: str | None
    """More about the reason, or what it waits for, in a word or two."""
    reference: str | None
    """The sender's own text."""
    attempts: tuple[Attempt, ...]
    """Its requests to the gateway, the first one first."""
    enqueued_at: datetime
    accepted_at: datetime | None
    """When the gateway took it."""
    finished_at: datetime | None
    """When it came into its final state."""
    allowed_at: datetime | None
    """Where it failed as too frequent for its number: when the next would be allowed."""
    certainly_not_sent: bool
    """It has ended, and no attempt was accepted or is in doubt: sending it again doubles nothing.

    False of a duplicate, as its key's holder may have been sent."""
    is_test: bool = False
    """It is to one of SMSQ_TEST_NUMBERS: the gateway was not called."""
    campaign: str | None = None
    """The name of the campaign that it is part of."""
    redo_of: str | None = None
    """The id of the message that it sends again, by `smsq redo`."""

    @property
    def final(self) -> bool:
        """Whether the state is final; a late report can still change it."""
        return self.state in FINAL


AT_ONCE: Final = 100
"""Messages that are read in one exchange: a round trip for each would take minutes for a list of
many where Redis is busy, or not near."""
_OF_ATTEMPTS: Final = ("mid", "outcome", "stat", "detail")
_DUPLICATE: Final = "duplicate:"
_UNSENT: Final = FINAL - {State.DELIVERED, State.UNREPORTED, State.DUPLICATE}


def key_holder(reason: str | None) -> str:
    """Return the id of the message that holds a duplicate's key, "" for another reason."""
    return reason.removeprefix(_DUPLICATE) if reason and reason.startswith(_DUPLICATE) else ""


def read_status(client: Client, url: str, message_id: str) -> Status | None:
    """Read a message; None for one that is unknown, or a bad id. Raises LedgerUnavailable."""
    return perform(client, reading(url, message_id))


def read_statuses(client: Client, url: str, ids: Iterable[str]) -> Iterator[Status | None]:
    """Read messages as `read_status` does, many in one exchange. Raises LedgerUnavailable."""
    rest = iter(ids)
    while some := list(islice(rest, AT_ONCE)):
        yield from perform(client, abreast(reading(url, one) for one in some))


def reading(url: str, message_id: str) -> Steps[Status | None]:
    """Read what `read_status` returns, as steps."""
    if not is_id(message_id):
        return None
    with mapped_errors(url):
        (found,) = yield from answered([("HGETALL", keys.message(message_id))])
    stored: dict[str, str] = as_dict(found)
    if not stored:
        return None
    fields = yield from reading_apparent(url, unfolded(stored))
    return status_of(message_id, fields)


def status_of(message_id: str, fields: dict[str, str]) -> Status:
    """Return what the fields of a message say."""
    texts = ("template", "phone", "reason", "stat", "detail", "reference", "campaign", "redo_of")
    return Status(
        id=message_id,
        state=cast("StateName", fields["state"]),
        lane=cast("LaneName", fields["lane"]),
        attempts=_attempts(fields),
        enqueued_at=at(int(fields["enqueued"])),
        accepted_at=_optional_time(fields.get("accepted")),
        finished_at=_optional_time(fields.get("finished")),
        allowed_at=_optional_time(fields.get("allowed")),
        certainly_not_sent=fields["state"] in _UNSENT and came_to_nothing(fields),
        is_test="test" in fields,
        **{name: fields.get(name) for name in texts},
    )


def _attempts(fields: dict[str, str]) -> tuple[Attempt, ...]:
    return tuple(
        _attempt(fields, n)
        for n in range(1, int(fields.get("n", 0)) + 1)
        if f"{n}:at" in fields  # the ledger forgets old attempts that were not sent
    )


def _attempt(fields: dict[str, str], n: int) -> Attempt:
    begun = at(int(fields[f"{n}:at"]))
    mid, outcome, stat, detail = map(fields.get, [f"{n}:{name}" for name in _OF_ATTEMPTS])
    if account := fields.get(f"{n}:account"):
        return AccountsAttempt(n, begun, mid, outcome, stat, detail, account)
    return Attempt(n, begun, mid, outcome, stat, detail)


def _optional_time(milliseconds: str | None) -> datetime | None:
    return None if milliseconds is None else at(int(milliseconds))
