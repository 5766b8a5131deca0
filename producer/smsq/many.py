"""`send_many`: a campaign's messages, in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self

from celery.utils import uuid

from smsq import deadline, tracing
from smsq.app import app
from smsq.contract import Lane, Message, State, parse, parse_lane
from smsq.errors import InvalidMessage, KeyConflict, LedgerFull, LedgerUnavailable
from smsq.failpoints import reached
from smsq.ledger_writer import Entered, Origin
from smsq.tasks import left_to_the_clock, publish_batch

BATCH_AT_MOST: Final = 1000
"""A batch is one act of the ledger, and others wait for its end."""

LeaveOut = Callable[[int, Any, InvalidMessage], object]
OnInvalid = Literal["raise", "skip"] | LeaveOut


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
        """Give a count that knows what was left out, and what is not sent."""
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
) -> Sent:
    """Enqueue messages, each a mapping of `send_sms`' arguments; give how many.

    They are taken from the iterable as they are written, a batch at a time, so any length will
    do. `lane` is that of rows without one. `on_batch` is given the ids of each batch, in order,
    once it is in the ledger.

    A bad row raises InvalidMessage with its `index`, after all rows before it have been enqueued:
    `enqueued` says how many. on_invalid="skip" leaves bad rows out and gives them in the answer's
    `invalid`; a function is called with (index, row, error) instead. A row whose `key` was taken
    for another number or template is such a row; its error is KeyConflict. Raises LedgerUnavailable
    where Redis does not answer a batch within SMSQ_ENQUEUE_TIMEOUT_S: `enqueued` rows are in, and
    of the batch after them it is not known. With a `key` in every row the same call can be made
    again, and nothing is sent twice: the answer's `duplicates` are the rows that were in already.
    All are kept for that; for millions give `on_duplicate`, which is called with each instead,
    before `on_batch`.
    """
    parse_lane(lane)
    _check(batch_size, on_invalid, on_batch=on_batch, on_duplicate=on_duplicate)
    skipped: list[InvalidMessage] = []
    duplicates: list[Duplicate] = []

    leave_out = _leaving_out(on_invalid, skipped)
    writer = _Writer(
        batch_size,
        on_batch or (lambda _: None),
        on_duplicate or duplicates.append,
        leave_out,
    )
    for index, row in enumerate(messages):
        try:
            message = _read(row, lane)
        except InvalidMessage as error:
            error.index = index
            if leave_out is None:
                writer.write()
                raise _stopped(error, writer.enqueued) from None
            leave_out(index, row, error)
        else:
            writer.add(_Row(index, row, uuid(), message))
    writer.write()
    return Sent(writer.enqueued, skipped, duplicates)


def _check(batch_size: int, on_invalid: object, **functions: object) -> None:
    """Raise ValueError for an argument of send_many that is none, before anything is written."""
    if not 1 <= batch_size <= BATCH_AT_MOST:
        raise ValueError(f"batch_size must be from 1 to {BATCH_AT_MOST}; got {batch_size}")
    if on_invalid not in {"raise", "skip"} and not callable(on_invalid):
        shown = f"{on_invalid!r:.40}"
        raise ValueError(f'on_invalid must be "raise", "skip" or a function; got {shown}')
    for name, given in functions.items():
        if given is not None and not callable(given):
            raise ValueError(f"{name} must be a function; got {given!r:.40}")


def _leaving_out(on_invalid: OnInvalid, skipped: list[InvalidMessage]) -> LeaveOut | None:
    """Return what is done about a bad row, None where it raises."""
    if on_invalid == "skip":
        return lambda index, row, error: skipped.append(error)  # noqa: ARG005
    return None if on_invalid == "raise" else on_invalid


class _Row(NamedTuple):
    """A row that keeps the rules, and the message that it becomes."""

    number: int
    given: Any
    id: str
    message: Message


class _Writer:
    """Collects messages, and writes them when a batch is full."""

    def __init__(
        self,
        batch_size: int,
        on_batch: Callable[[Sequence[str]], object],
        on_duplicate: Callable[[Duplicate], object],
        on_conflict: LeaveOut | None,
    ) -> None:
        """Without `on_conflict` the first conflict of keys raises, as a bad row does."""
        self.enqueued = 0
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._on_duplicate = on_duplicate
        self._on_conflict = on_conflict
        self._batch: list[_Row] = []

    def add(self, row: _Row) -> None:
        """Take a message, and write the batch if it is full."""
        self._batch.append(row)
        if len(self._batch) == self._batch_size:
            self.write()

    def write(self) -> None:
        """Write what has been taken, and publish a wake-up for each lane in it."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        # One span for all: a campaign of one each would be dear, and too much for its trace.
        within = deadline.within(app.settings.enqueue_timeout_s)
        with within, tracing.sending({"messages": len(batch)}) as span:
            entered = self._enter(batch, Origin(trace=span.traceparent))
        # After a conflict at which it stopped there is no answer.
        told = [*zip(batch, entered, strict=False)]
        ids = [row.id for row, found in told if isinstance(found, Entered)]
        self.enqueued += len(ids)
        try:
            for row, found in told:
                self._tell(row, found)
        finally:  # They are in the ledger, whatever a caller's function raised.
            if ids:
                self._on_batch(ids)

    def _tell(self, row: _Row, found: Entered | KeyConflict) -> None:
        if isinstance(found, KeyConflict):
            found.index = row.number
            if self._on_conflict is None:
                raise _stopped(found, self.enqueued)
            self._on_conflict(row.number, row.given, found)
        elif found.duplicate_of:
            self._on_duplicate(Duplicate(row.number, row.id, found.duplicate_of))

    def _enter(self, batch: Sequence[_Row], origin: Origin) -> list[Entered | KeyConflict]:
        messages = [(row.id, row.message) for row in batch]
        try:
            entered = app.entrance.enter_many(
                messages, origin, stop_at_conflict=self._on_conflict is None
            )
        except LedgerUnavailable as error:
            told = f"{error}; {self.enqueued} messages are enqueued, of the next {len(batch)} "
            is_known = isinstance(error, LedgerFull)
            stopped = type(error)(told + ("none" if is_known else "it is not known"))
            stopped.enqueued = self.enqueued
            raise stopped from error
        reached("after entry")
        queued: dict[Lane, list[str]] = defaultdict(list)
        for row, found in zip(batch, entered, strict=False):
            if isinstance(found, Entered) and found.state is State.QUEUED:
                queued[row.message.lane].append(row.id)
        for lane, ids in queued.items():
            _wake(lane, ids)
        return entered


def _read(row: object, lane: str) -> Message:
    if isinstance(row, Message):
        return row
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise InvalidMessage(f"a row must be a mapping of send_sms' arguments; got a {kind}")
    return parse((), row if "lane" in row else {**row, "lane": lane})


def _stopped(error: InvalidMessage, enqueued: int) -> InvalidMessage:
    told = f"row {error.index}: {error}; the {enqueued} messages before it are enqueued"
    stopped = copy(error)
    stopped.args, stopped.enqueued = (told,), enqueued
    return stopped


def _wake(lane: Lane, ids: Sequence[str]) -> None:
    with left_to_the_clock(f"a batch of {len(ids)}", ids):
        publish_batch(app, ids, lane)
