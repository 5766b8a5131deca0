"""The ledger in Redis, as a producer uses it: what every call does, and within which time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from smsq import deadline, tracing, wakeup
from smsq.app import app
from smsq.async_connection import aexchange
from smsq.cancelling import Cancellation
from smsq.connection import exchange
from smsq.contract import Lane, Message, State, mask_phone
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq.ledger_writer import WakeUp
from smsq.publishing import left_to_the_scheduler, publish, publish_batch
from smsq.steps import Answers, Commands, Steps, adrive, drive
from smsq.tracking import Status, reading

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.rules import Guess, Wanted

Result = TypeVar("Result")
Messages = Sequence[tuple[str, Message]]
Publish = partial[None]
"""Publishes wake-ups, where the broker is another server; kombu blocks meanwhile."""
_Steps = Generator[Commands | Publish, Any, Result]
"""What a call does with Redis, and then with the broker."""


class RedisLedger:
    """Writes messages together with their wake-ups, and reads them."""

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
        """Write a message; in one act with its wake-up where broker and ledger are one Redis."""
        return _do(_entering(message_id, message, origin))

    async def aenter(self, message_id: str, message: Message) -> Entered:
        """Enter as `enter` does, without blocking the event loop."""
        return await _ado(_entering(message_id, message, NO_ORIGIN))

    def enter_many(
        self, messages: Messages, *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Write messages in one act, with a wake-up for each lane; return the result of each."""
        return _do(_entering_many(messages, stop_at_conflict))

    async def aenter_many(
        self, messages: Messages, *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Enter as `enter_many` does, without blocking the event loop."""
        return await _ado(_entering_many(messages, stop_at_conflict))

    def enter_entries(self, entries: Sequence[tuple[Any, ...]]) -> list[Entered | KeyConflict]:
        """Write what `as_entry` made in one act, with a wake-up for each lane."""
        return _do(_entering_entries(entries))

    def status(self, message_id: str) -> Status | None:
        """Read a message; None for one that is unknown."""
        return _do(reading(app.settings.redis_url, message_id))

    async def astatus(self, message_id: str) -> Status | None:
        """Return what `status` does, without blocking the event loop."""
        return await _ado(reading(app.settings.redis_url, message_id))

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message; None for one that is unknown."""
        return _do(app.canceller.cancelling([message_id]))[0]

    async def acancel(self, message_id: str) -> Cancellation | None:
        """Cancel as `cancel` does, without blocking the event loop."""
        return (await _ado(app.canceller.cancelling([message_id])))[0]

    def start_verification(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""
        return _do(_starting(wanted))

    async def astart_verification(self, wanted: Wanted) -> Challenge:
        """Start as `start_verification` does, without blocking the event loop."""
        return await _ado(_starting(wanted))

    def check_verification(self, guess: Guess) -> bool:
        """Return whether a code is its challenge's, and use it up."""
        return _do(_checking(guess))

    async def acheck_verification(self, guess: Guess) -> bool:
        """Check as `check_verification` does, without blocking the event loop."""
        return await _ado(_checking(guess))


def _do(steps: _Steps[Result]) -> Result:
    def do(asked: Commands | Publish) -> Answers | None:
        if not isinstance(asked, partial):
            return exchange(client, asked)
        asked()
        return None

    client = app.client
    with deadline.within(app.settings.enqueue_timeout_s):
        return drive(steps, do)


async def _ado(steps: _Steps[Result]) -> Result:
    async def do(asked: Commands | Publish) -> Answers | None:
        if not isinstance(asked, partial):
            return await aexchange(client, asked)
        await _in_thread(asked)
        return None

    client = app.client
    with deadline.within(app.settings.enqueue_timeout_s):
        return await adrive(steps, do)


def _traced_one(message_id: str, message: Message) -> AbstractContextManager[tracing.Sending]:
    return tracing.sending({"id": message_id, "lane": message.lane, "template": message.template})


def _traced_many(messages: Messages) -> AbstractContextManager[tracing.Sending]:
    """Return one span for all: one for each message would cost too much and flood its trace."""
    return tracing.sending({"messages": len(messages)})


def _entering(message_id: str, message: Message, origin: Origin) -> _Steps[Entered]:
    with _traced_one(message_id, message) as span:
        traced = replace(origin, trace=span.traceparent) if span.traceparent else origin
        own = _own_wakeup(message_id, message)
        reached("before entry")
        entered = yield from app.ledger_writer.entering(message_id, message, traced, own)
        span.tell({"state": entered.state})
        reached("after entry")
        if own is None and entered.state is State.QUEUED:
            yield partial(_publish_one, message_id, message)
        return entered


def _starting(wanted: Wanted) -> _Steps[Challenge]:
    from smsq.verify.redis_store import starting

    message_id, message = wanted.message_id, wanted.message
    with _traced_one(message_id, message) as span:
        own = _own_wakeup(message_id, message)
        started = yield from starting(wanted, span, own)
        if own is None and started.state is State.QUEUED:
            yield partial(_publish_one, message_id, message)
        return started.challenge


def _checking(guess: Guess) -> Steps[bool]:
    from smsq.verify.redis_store import checking

    return checking(guess)


def _own_wakeup(message_id: str, message: Message) -> WakeUp | None:
    """Return what the act pushes itself, where broker and ledger are one Redis."""
    if not app.settings.is_one_redis:
        return None
    return wakeup.of_one(app, message_id, message.lane, _shown(message))


def _entering_many(
    messages: Messages, stop_at_conflict: bool
) -> _Steps[list[Entered | KeyConflict]]:
    with _traced_many(messages) as span:
        origin = Origin(trace=span.traceparent)
        entries = yield from app.ledger_writer.making_entries(messages, origin)
        return (yield from _entering_entries(entries, stop_at_conflict))


def _entering_entries(
    entries: Sequence[tuple[Any, ...]], stop_at_conflict: bool = False
) -> _Steps[list[Entered | KeyConflict]]:
    is_one = app.settings.is_one_redis
    wakeups = wakeup.of_batches(app, {entry[1] for entry in entries}) if is_one else ()
    reached("before entry")
    found = yield from app.ledger_writer.entering_entries(entries, stop_at_conflict, wakeups)
    reached("after entry")
    if not is_one:
        yield partial(_publish_queued, entries, found)
    return found


def _publish_one(message_id: str, message: Message) -> None:
    with left_to_the_scheduler([message_id]):
        publish(app, message_id, message.lane, argsrepr=_shown(message))


def _publish_queued(
    entries: Sequence[tuple[Any, ...]], found: Iterable[Entered | KeyConflict]
) -> None:
    """Publish a wake-up for each lane of those that are queued."""
    queued: dict[Lane, list[str]] = defaultdict(list)
    # After a conflict at which it stopped there are no more answers.
    for (message_id, lane, *_), result in zip(entries, found, strict=False):
        if isinstance(result, Entered) and result.state is State.QUEUED:
            queued[lane].append(message_id)
    for lane, ids in queued.items():
        with left_to_the_scheduler(ids):
            publish_batch(app, ids, lane)


async def _in_thread(publish: Publish) -> None:
    """Publish in a thread, within the caller's deadline, which its context has.

    The thread goes on where the caller is cancelled, as the messages are in the ledger.
    """
    run = copy_context().run
    with suppress(RuntimeError):  # The loop is ending and takes no more: their timers wake them up.
        publishing = asyncio.get_running_loop().run_in_executor(None, run, publish)
        await asyncio.wait([publishing], timeout=max(0.0, deadline.left_s()))


def _shown(message: Message) -> str:
    return f"('{mask_phone(message.phone)}', '{message.template}')"
