"""`send_many`: a campaign's messages, in batches."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from inspect import isawaitable, iscoroutinefunction
from itertools import count
from typing import Any, Final, Literal, NamedTuple, Self

from smsq import ledgers
from smsq.connection import NOTHING_ENTERED
from smsq.contract import LaneName, Message, Row, parse, parse_campaign, parse_lane
from smsq.entries import Entered
from smsq.errors import (
    CampaignCancelled,
    InvalidMessage,
    KeyConflict,
    LedgerFull,
    LedgerUnavailable,
)
from smsq.ids import new_id
from smsq.steps import CallSteps

BATCH_AT_MOST: Final = 1000
"""A batch is one act of the ledger, and all others wait until it is done."""

Given = Row | Mapping[str, Any] | Message
OnInvalid = Literal["raise", "skip"] | Callable[[int, Any, InvalidMessage], object]

_END: Final = object()


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
    """How many messages were enqueued, an int; with what was left out, and the duplicates."""

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
    messages: Iterable[Given],
    *,
    lane: LaneName = "bulk",
    batch_size: int = 100,
    on_batch: Callable[[Sequence[str]], object] | None = None,
    on_invalid: OnInvalid = "raise",
    on_duplicate: Callable[[Duplicate], object] | None = None,
    campaign: str | None = None,
) -> Sent:
    """Enqueue messages, each a mapping of `send_sms`' arguments; return how many.

    The iterable is read a batch at a time, so it may have any length. A batch has 1 to 1000
    messages; while it is written all others wait. `lane` and `campaign` are those of rows without
    one; an operator can pause, slow and cancel a campaign as a whole. Raises CampaignCancelled
    where that was done: `enqueued` rows are in, and none after them. `on_batch` is called with the
    ids of each batch, in order, once it is in the ledger.

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
    sending = _Sending(lane, campaign, batch_size, on_batch, on_invalid, on_duplicate)
    return ledgers.do(sending.all(messages))


async def asend_many(
    messages: Iterable[Given] | AsyncIterable[Given],
    *,
    lane: LaneName = "bulk",
    batch_size: int = 100,
    on_batch: Callable[[Sequence[str]], object] | None = None,
    on_invalid: OnInvalid = "raise",
    on_duplicate: Callable[[Duplicate], object] | None = None,
    campaign: str | None = None,
) -> Sent:
    """Enqueue messages as `send_many` does; the event loop goes on meanwhile.

    The rows may be an async iterable, and the functions async: they are awaited. If the task is
    cancelled, the batches before are in, and of that moment's batch it is not known: with a `key`
    in every row the same call can be made again.
    """
    sending = _Sending(lane, campaign, batch_size, on_batch, on_invalid, on_duplicate, awaits=True)
    return await ledgers.ado(sending.all(messages))


class _Row(NamedTuple):
    """A valid row, and the message that it becomes."""

    number: int
    given: Any
    id: str
    message: Message


@dataclass
class _Sending:
    """One call of send_many: its arguments, and how far it has come."""

    lane: str
    campaign: str | None
    batch_size: int
    on_batch: Callable[[Sequence[str]], object] | None
    on_invalid: OnInvalid
    on_duplicate: Callable[[Duplicate], object] | None
    awaits: bool = False
    enqueued: int = 0
    skipped: list[InvalidMessage] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise ValueError for a bad argument, before anything is written."""
        parse_lane(self.lane)
        if self.campaign is not None:
            parse_campaign(self.campaign)
        is_whole = hasattr(self.batch_size, "__index__")  # A batch of 2.5 would never be full.
        if not (is_whole and 1 <= self.batch_size <= BATCH_AT_MOST):
            rule = f"batch_size must be a whole number from 1 to {BATCH_AT_MOST}"
            raise ValueError(f"{rule}; got {self.batch_size!r:.40}")
        if self.on_invalid not in {"raise", "skip"} and not callable(self.on_invalid):
            shown = f"{self.on_invalid!r:.40}"
            raise ValueError(f'on_invalid must be "raise", "skip" or a function; got {shown}')
        for name, given in (("on_batch", self.on_batch), ("on_duplicate", self.on_duplicate)):
            if given is not None and not callable(given):
                raise ValueError(f"{name} must be a function; got {given!r:.40}")
        for function in (self.on_batch, self.on_invalid, self.on_duplicate):
            if not self.awaits and iscoroutinefunction(function):
                told = f"{function.__name__} is an async function, which only asend_many awaits"
                raise ValueError(told)

    def all(self, messages: Any) -> CallSteps[Sent]:
        """Enqueue rows; return how many."""
        is_async = self.awaits and isinstance(messages, AsyncIterable)
        rows = aiter(messages) if is_async else iter(messages)
        batch: list[_Row] = []
        for index in count():
            given = (yield anext(rows, _END)) if is_async else next(rows, _END)
            if given is _END:
                break
            try:
                message = _parse(given, self.lane, self.campaign)
                batch.append(_Row(index, given, new_id(), message))
            except InvalidMessage as error:
                error.index = index
                if self.on_invalid == "raise":
                    yield from self.enqueue(batch)
                    raise self.stopped(error) from None
                yield from self.leave_out(index, given, error)
            if len(batch) == self.batch_size:
                batch, full = [], batch
                yield from self.enqueue(full)
        yield from self.enqueue(batch)
        return Sent(self.enqueued, self.skipped, self.duplicates)

    def enqueue(self, batch: Sequence[_Row]) -> CallSteps[None]:
        """Write a batch to the ledger, with a wake-up for each lane, and report the results."""
        if not batch:
            return
        # After a conflict at which it stopped there are no more answers.
        results = [*zip(batch, (yield from self._write(batch)), strict=False)]
        entered = [row.id for row, found in results if isinstance(found, Entered)]
        self.enqueued += len(entered)
        try:
            for row, found in results:
                if isinstance(found, KeyConflict) or found.duplicate_of:
                    yield from self._report(row, found)
        finally:  # They are in the ledger, whatever a caller's function raised.
            if entered and self.on_batch:
                yield from self._call(self.on_batch, entered)

    def leave_out(self, index: int, given: Any, error: InvalidMessage) -> CallSteps[None]:
        """Pass a bad row to the caller's function, or collect its error."""
        if callable(self.on_invalid):
            yield from self._call(self.on_invalid, index, given, error)
        else:
            self.skipped.append(error)

    def stopped(self, error: InvalidMessage) -> InvalidMessage:
        """Return the error with what is enqueued added."""
        told = f"row {error.index}: {error}; the {self.enqueued} messages before it are enqueued"
        stopped = copy(error)
        stopped.args, stopped.enqueued = (told,), self.enqueued
        return stopped

    def _call(self, function: Callable[..., object], *args: object) -> CallSteps[None]:
        result = function(*args)
        if self.awaits and isawaitable(result):
            yield result

    def _write(self, batch: Sequence[_Row]) -> CallSteps[list[Entered | KeyConflict]]:
        messages, ledger = [(row.id, row.message) for row in batch], ledgers.current()
        try:
            return (yield from ledger.entering_many(messages, self.on_invalid == "raise"))
        except CampaignCancelled as error:
            error.enqueued = self.enqueued
            error.args = (f"{error}; {self.enqueued} messages are enqueued before it",)
            raise
        except LedgerUnavailable as error:
            why = str(error).removesuffix(NOTHING_ENTERED)  # It is said of this batch alone.
            told = f"{why}; {self.enqueued} messages are enqueued, of the next {len(batch)} "
            is_known = isinstance(error, LedgerFull) or why != str(error)
            stopped = type(error)(told + ("none" if is_known else "it is not known"))
            stopped.enqueued = self.enqueued
            raise stopped from error

    def _report(self, row: _Row, found: Entered | KeyConflict) -> CallSteps[None]:
        if isinstance(found, KeyConflict):
            found.index = row.number
            if self.on_invalid == "raise":
                raise self.stopped(found)
            yield from self.leave_out(row.number, row.given, found)
        elif found.duplicate_of:
            duplicate = Duplicate(row.number, row.id, found.duplicate_of)
            yield from self._call(self.on_duplicate or self.duplicates.append, duplicate)


def _parse(row: object, lane: str, campaign: str | None) -> Message:
    if isinstance(row, Message):
        return row if row.campaign or not campaign else replace(row, campaign=campaign)
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise InvalidMessage(f"a row must be a mapping of send_sms' arguments; got a {kind}")
    if campaign is not None and "campaign" not in row:
        row = {**row, "campaign": campaign}
    return parse((), row if "lane" in row else {**row, "lane": lane})
