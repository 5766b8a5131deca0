"""`send_many`: a campaign's messages, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Self

from smsq import ledgers
from smsq.contract import Message, new_id, parse, parse_campaign, parse_lane
from smsq.errors import (
    CampaignCancelled,
    InvalidMessage,
    KeyConflict,
    LedgerFull,
    LedgerUnavailable,
)
from smsq.ledger_writer import Entered

BATCH_AT_MOST: Final = 1000
"""A batch is one act of the ledger, and all others wait until it is done."""

OnInvalid = Literal["raise", "skip"] | Callable[[int, Any, InvalidMessage], object]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A row that is not sent, because another message holds its key."""

    index: int
    """Which row, counted from 0."""
    id: str
    """The id of the row's own message."""
    duplicate_of: str
    """The id of the message that holds the key."""


class Sent(int):
    """How many messages were enqueued."""

    invalid: tuple[InvalidMessage, ...]
    """With on_invalid="skip": why rows were left out; each has its `index`."""
    duplicates: tuple[Duplicate, ...]
    """Which of them are not sent, where no `on_duplicate` was given."""

    def __new__(
        cls,
        count: int,
        invalid: Sequence[InvalidMessage] = (),
        duplicates: Sequence[Duplicate] = (),
    ) -> Self:
        """Return a count that carries what was left out, and what is not sent."""
        self = super().__new__(cls, count)
        self.invalid = tuple(invalid)
        self.duplicates = tuple(duplicates)
        return self


def send_many(
    messages: Iterable[Mapping[str, Any] | Message],
    *,
    lane: str = "bulk",
    batch_size: int = 100,
    on_batch: Callable[[Sequence[str]], object] | None = None,
    on_invalid: OnInvalid = "raise",
    on_duplicate: Callable[[Duplicate], object] | None = None,
    campaign: str | None = None,
) -> Sent:
    """Enqueue messages, each a mapping of `send_sms`' arguments; return how many.

    The iterable is read a batch at a time, so it may have any length. `lane` and `campaign` are
    those of rows without one; an operator can pause, slow and cancel a campaign as a whole. Raises
    CampaignCancelled where that was done: `enqueued` rows are in, and none after them. `on_batch`
    is called with the ids of each batch, in order, once it is in the ledger.

    A bad row raises InvalidMessage with its `index`, after all rows before it have been enqueued:
    `enqueued` says how many. on_invalid="skip" leaves bad rows out and returns them as `invalid`;
    a function is called with (index, row, error) instead. A row whose `key` was taken for another
    number or template is such a row; its error is KeyConflict. Raises LedgerUnavailable if Redis
    does not answer a batch within SMSQ_ENQUEUE_TIMEOUT_S: `enqueued` rows are in, and of the batch
    after them it is not known. With a `key` in every row the same call can be made again, and
    nothing is sent twice: `duplicates` of the result are the rows that were in already. All of
    them are kept; for millions give `on_duplicate`, which is called with each instead, before
    `on_batch`.
    """
    parse_lane(lane)
    if campaign is not None:
        parse_campaign(campaign)
    _check(batch_size, on_invalid, on_batch=on_batch, on_duplicate=on_duplicate)
    sending = _Sending(on_batch, on_invalid, on_duplicate)
    batch: list[_Row] = []
    for index, given in enumerate(messages):
        try:
            batch.append(_Row(index, given, new_id(), _parse(given, lane, campaign)))
        except InvalidMessage as error:
            error.index = index
            if sending.stops_at_invalid:
                sending.enqueue(batch)
                raise sending.stopped(error) from None
            sending.leave_out(index, given, error)
        if len(batch) == batch_size:
            batch, full = [], batch
            sending.enqueue(full)
    sending.enqueue(batch)
    return Sent(sending.enqueued, sending.skipped, sending.duplicates)


def _check(batch_size: int, on_invalid: object, **functions: object) -> None:
    """Raise ValueError for a bad argument of send_many, before anything is written."""
    if not 1 <= batch_size <= BATCH_AT_MOST:
        raise ValueError(f"batch_size must be from 1 to {BATCH_AT_MOST}; got {batch_size}")
    if on_invalid not in {"raise", "skip"} and not callable(on_invalid):
        shown = f"{on_invalid!r:.40}"
        raise ValueError(f'on_invalid must be "raise", "skip" or a function; got {shown}')
    for name, given in functions.items():
        if given is not None and not callable(given):
            raise ValueError(f"{name} must be a function; got {given!r:.40}")


class _Row(NamedTuple):
    """A valid row, and the message that it becomes."""

    number: int
    given: Any
    id: str
    message: Message


class _Sending:
    """The state of one call of send_many, and its callbacks."""

    def __init__(
        self,
        on_batch: Callable[[Sequence[str]], object] | None,
        on_invalid: OnInvalid,
        on_duplicate: Callable[[Duplicate], object] | None,
    ) -> None:
        self.enqueued = 0
        self.skipped: list[InvalidMessage] = []
        self.duplicates: list[Duplicate] = []
        self.stops_at_invalid = on_invalid == "raise"
        self._on_batch = on_batch
        self._on_invalid = on_invalid
        self._on_duplicate = on_duplicate or self.duplicates.append

    def enqueue(self, batch: Sequence[_Row]) -> None:
        """Write a batch to the ledger, with a wake-up for each lane, and report the results."""
        if not batch:
            return
        # After a conflict at which it stopped there are no more answers.
        results = [*zip(batch, self._write(batch), strict=False)]
        entered = [row.id for row, found in results if isinstance(found, Entered)]
        self.enqueued += len(entered)
        try:
            for row, found in results:
                self._report(row, found)
        finally:  # They are in the ledger, whatever a caller's function raised.
            if entered and self._on_batch:
                self._on_batch(entered)

    def leave_out(self, index: int, given: Any, error: InvalidMessage) -> None:
        """Pass a bad row to the caller's function, or collect its error."""
        if callable(self._on_invalid):
            self._on_invalid(index, given, error)
        else:
            self.skipped.append(error)

    def stopped(self, error: InvalidMessage) -> InvalidMessage:
        """Return the error with what is enqueued added."""
        told = f"row {error.index}: {error}; the {self.enqueued} messages before it are enqueued"
        stopped = copy(error)
        stopped.args, stopped.enqueued = (told,), self.enqueued
        return stopped

    def _write(self, batch: Sequence[_Row]) -> list[Entered | KeyConflict]:
        messages = [(row.id, row.message) for row in batch]
        try:
            return ledgers.current().enter_many(messages, stop_at_conflict=self.stops_at_invalid)
        except CampaignCancelled as error:
            error.enqueued = self.enqueued
            error.args = (f"{error}; {self.enqueued} messages are enqueued before it",)
            raise
        except LedgerUnavailable as error:
            told = f"{error}; {self.enqueued} messages are enqueued, of the next {len(batch)} "
            is_known = isinstance(error, LedgerFull)
            stopped = type(error)(told + ("none" if is_known else "it is not known"))
            stopped.enqueued = self.enqueued
            raise stopped from error

    def _report(self, row: _Row, found: Entered | KeyConflict) -> None:
        if isinstance(found, KeyConflict):
            found.index = row.number
            if self.stops_at_invalid:
                raise self.stopped(found)
            self.leave_out(row.number, row.given, found)
        elif found.duplicate_of:
            self._on_duplicate(Duplicate(row.number, row.id, found.duplicate_of))


def _parse(row: object, lane: str, campaign: str | None) -> Message:
    if isinstance(row, Message):
        return row if row.campaign or not campaign else replace(row, campaign=campaign)
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise InvalidMessage(f"a row must be a mapping of send_sms' arguments; got a {kind}")
    if campaign is not None and "campaign" not in row:
        row = {**row, "campaign": campaign}
    return parse((), row if "lane" in row else {**row, "lane": lane})
