"""`send_many`: a campaign's messages, in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Self

from celery.utils import uuid

from smsq import tracing
from smsq.app import app
from smsq.contract import Lane, Message, State, parse, parse_lane
from smsq.enqueue import Origin
from smsq.errors import InvalidMessage, LedgerUnavailable
from smsq.killpoint import reached
from smsq.tasks import left_to_the_clock, publish_batch

BATCH_AT_MOST: Final = 1000
"""A batch is one act of the ledger, and others wait for its end."""

OnInvalid = Literal["raise", "skip"] | Callable[[int, Any, InvalidMessage], object]


class Sent(int):
    """How many messages were enqueued."""

    invalid: tuple[InvalidMessage, ...]
    """With on_invalid="skip": why rows were left out; each has its `index`."""

    def __new__(cls, count: int, invalid: Sequence[InvalidMessage] = ()) -> Self:
        """Give a count that knows what was left out."""
        self = super().__new__(cls, count)
        self.invalid = tuple(invalid)
        return self


def send_many(
    messages: Iterable[Mapping[str, Any]],
    *,
    lane: str = "bulk",
    batch_size: int = 100,
    on_batch: Callable[[Sequence[str]], object] | None = None,
    on_invalid: OnInvalid = "raise",
) -> Sent:
    """Enqueue messages, each a mapping of `send_sms`' arguments; give how many.

    They are taken from the iterable as they are written, a batch at a time, so any length will
    do. `lane` is that of rows without one. `on_batch` is given the ids of each batch, in order,
    once it is in the ledger.

    A bad row raises InvalidMessage with its `index`, after all rows before it have been enqueued:
    `enqueued` says how many. on_invalid="skip" leaves bad rows out and gives them in the answer's
    `invalid`; a function is called with (index, row, error) instead. Raises LedgerUnavailable
    where Redis does not answer: `enqueued` rows are in, and of the batch after them it is not
    known. With a `key` in every row the same call can be made again, and nothing is sent twice.
    """
    parse_lane(lane)
    if not 1 <= batch_size <= BATCH_AT_MOST:
        raise ValueError(f"batch_size must be from 1 to {BATCH_AT_MOST}; got {batch_size}")
    writer = _Writer(batch_size, on_batch)
    skipped: list[InvalidMessage] = []
    for index, row in enumerate(messages):
        try:
            message = _read(row, lane)
        except InvalidMessage as error:
            error.index = index
            if on_invalid == "raise":
                writer.write()
                raise _stopped(error, writer.enqueued) from None
            if on_invalid == "skip":
                skipped.append(error)
            else:
                on_invalid(index, row, error)
        else:
            writer.add(message)
    writer.write()
    return Sent(writer.enqueued, skipped)


class _Writer:
    """Collects messages, and writes them when a batch is full."""

    def __init__(self, batch_size: int, on_batch: Callable[[Sequence[str]], object] | None) -> None:
        self.enqueued = 0
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._batch: list[tuple[str, Message]] = []

    def add(self, message: Message) -> None:
        """Take a message, and write the batch if it is full."""
        self._batch.append((uuid(), message))
        if len(self._batch) == self._batch_size:
            self.write()

    def write(self) -> None:
        """Write what has been taken, and publish a wake-up for each lane in it."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        # One span for all: a campaign of one each would be dear, and too much for its trace.
        with tracing.sending({"messages": len(batch)}) as span:
            self._enter(batch, Origin(trace=span.traceparent))
        self.enqueued += len(batch)
        if self._on_batch:
            self._on_batch([message_id for message_id, _ in batch])

    def _enter(self, batch: Sequence[tuple[str, Message]], origin: Origin) -> None:
        try:
            states = app.entrance.enter_many(batch, origin)
        except LedgerUnavailable as error:
            told = f"{error}; {self.enqueued} messages are enqueued, of the next {len(batch)} "
            stopped = LedgerUnavailable(f"{told}it is not known")
            stopped.enqueued = self.enqueued
            raise stopped from error
        reached("after entry")
        queued: dict[Lane, list[str]] = defaultdict(list)
        for (message_id, message), state in zip(batch, states, strict=True):
            if state is State.QUEUED:
                queued[message.lane].append(message_id)
        for lane, ids in queued.items():
            _wake(lane, ids)


def _read(row: object, lane: str) -> Message:
    if not isinstance(row, Mapping):
        kind = type(row).__name__
        raise InvalidMessage(f"a row must be a mapping of send_sms' arguments; got a {kind}")
    return parse((), row if "lane" in row else {**row, "lane": lane})


def _stopped(error: InvalidMessage, enqueued: int) -> InvalidMessage:
    told = f"row {error.index}: {error}; the {enqueued} messages before it are enqueued"
    stopped = InvalidMessage(told)
    stopped.index, stopped.enqueued = error.index, enqueued
    return stopped


def _wake(lane: Lane, ids: Sequence[str]) -> None:
    with left_to_the_clock(f"a batch of {len(ids)}", ids):
        publish_batch(app, ids, lane)
