"""The ledger in Redis, as a producer uses it: what every call does, and within which time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smsq import deadline, tracing, wakeup
from smsq.app import app
from smsq.async_connection import aperform
from smsq.cancelling import Cancellation
from smsq.connection import perform
from smsq.contract import Lane, Message, State, mask_phone
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq.ledger_writer import BatchWakeUp, WakeUp
from smsq.publishing import left_to_the_scheduler, publish, publish_batch
from smsq.steps import Steps
from smsq.tracking import Status, reading

Messages = Sequence[tuple[str, Message]]

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.redis_store import Started
    from smsq.verify.rules import Guess, Wanted


class RedisLedger:
    """Writes messages together with their wake-ups, and reads them."""

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
        """Write a message; in one act with its wake-up where broker and ledger are one Redis."""
        with _in_time(), _traced_one(message_id, message) as span:
            entered = perform(app.client, _entering(span, message_id, message, origin))
            if _is_unpublished(entered):
                _publish_one(message_id, message)
            return entered

    async def aenter(self, message_id: str, message: Message) -> Entered:
        """Enter as `enter` does, without blocking the event loop."""
        with _in_time(), _traced_one(message_id, message) as span:
            steps = _entering(span, message_id, message, NO_ORIGIN)
            entered = await aperform(app.async_client, steps)
            if _is_unpublished(entered):
                await _in_thread(_publish_one, message_id, message)
            return entered

    def enter_many(
        self, messages: Messages, *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Write messages in one act, with a wake-up for each lane; return the result of each."""
        with _in_time(), _traced_many(messages) as span:
            found = perform(app.client, _entering_many(span, messages, stop_at_conflict))
            if not app.settings.is_one_redis:
                _publish_many(messages, found)
            return found

    def enter_entries(self, entries: Sequence[tuple[Any, ...]]) -> list[Entered | KeyConflict]:
        """Write what `as_entry` made in one act, with a wake-up for each lane."""
        with _in_time():
            is_one = app.settings.is_one_redis
            lanes = {entry[1] for entry in entries}
            wakeups = wakeup.of_batches(app, lanes) if is_one else ()
            found = app.ledger_writer.enter_entries(entries, wakeups)
            if not is_one:
                _publish_queued([entry[:2] for entry in entries], found)
            return found

    async def aenter_many(
        self, messages: Messages, *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Enter as `enter_many` does, without blocking the event loop."""
        with _in_time(), _traced_many(messages) as span:
            steps = _entering_many(span, messages, stop_at_conflict)
            found = await aperform(app.async_client, steps)
            if not app.settings.is_one_redis:
                await _in_thread(_publish_many, messages, found)
            return found

    def status(self, message_id: str) -> Status | None:
        """Read a message; None for one that is unknown."""
        with _in_time():
            return perform(app.client, reading(app.settings.redis_url, message_id))

    async def astatus(self, message_id: str) -> Status | None:
        """Return what `status` does, without blocking the event loop."""
        with _in_time():
            return await aperform(app.async_client, reading(app.settings.redis_url, message_id))

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message; None for one that is unknown."""
        with _in_time():
            (answer,) = app.canceller.cancel([message_id])
            return answer

    async def acancel(self, message_id: str) -> Cancellation | None:
        """Cancel as `cancel` does, without blocking the event loop."""
        with _in_time():
            (answer,) = await aperform(app.async_client, app.canceller.cancelling([message_id]))
            return answer

    def start_verification(self, wanted: Wanted) -> Challenge:
        """Start a challenge and enter its message, or return the one that there is."""
        from smsq.verify.redis_store import starting

        message_id, message = wanted.message_id, wanted.message
        with _in_time(), _traced_one(message_id, message) as span:
            started = perform(app.client, starting(wanted, span, _own_wakeup(message_id, message)))
            if _is_unpublished(started):
                _publish_one(message_id, message)
            return started.challenge

    async def astart_verification(self, wanted: Wanted) -> Challenge:
        """Start as `start_verification` does, without blocking the event loop."""
        from smsq.verify.redis_store import starting

        message_id, message = wanted.message_id, wanted.message
        with _in_time(), _traced_one(message_id, message) as span:
            steps = starting(wanted, span, _own_wakeup(message_id, message))
            started = await aperform(app.async_client, steps)
            if _is_unpublished(started):
                await _in_thread(_publish_one, message_id, message)
            return started.challenge

    def check_verification(self, guess: Guess) -> bool:
        """Return whether a code is its challenge's, and use it up."""
        from smsq.verify.redis_store import checking

        with _in_time():
            return perform(app.client, checking(guess))

    async def acheck_verification(self, guess: Guess) -> bool:
        """Check as `check_verification` does, without blocking the event loop."""
        from smsq.verify.redis_store import checking

        with _in_time():
            return await aperform(app.async_client, checking(guess))


def _in_time() -> AbstractContextManager[None]:
    return deadline.within(app.settings.enqueue_timeout_s)


def _traced_one(message_id: str, message: Message) -> AbstractContextManager[tracing.Sending]:
    return tracing.sending({"id": message_id, "lane": message.lane, "template": message.template})


def _traced_many(messages: Messages) -> AbstractContextManager[tracing.Sending]:
    """Return one span for all: one for each message would cost too much and flood its trace."""
    return tracing.sending({"messages": len(messages)})


def _entering(
    span: tracing.Sending, message_id: str, message: Message, origin: Origin
) -> Steps[Entered]:
    traced = replace(origin, trace=span.traceparent) if span.traceparent else origin
    own = _own_wakeup(message_id, message)
    reached("before entry")
    entered = yield from app.ledger_writer.entering(message_id, message, traced, own)
    span.tell({"state": entered.state})
    reached("after entry")
    return entered


def _own_wakeup(message_id: str, message: Message) -> WakeUp | None:
    """Return what the act pushes itself, where broker and ledger are one Redis."""
    if not app.settings.is_one_redis:
        return None
    return wakeup.of_one(app, message_id, message.lane, _shown(message))


def _entering_many(
    span: tracing.Sending, messages: Messages, stop_at_conflict: bool
) -> Steps[list[Entered | KeyConflict]]:
    wakeups: Sequence[BatchWakeUp] = ()
    if app.settings.is_one_redis:
        wakeups = wakeup.of_batches(app, {message.lane for _, message in messages})
    reached("before entry")
    found = yield from app.ledger_writer.entering_many(
        messages, Origin(trace=span.traceparent), stop_at_conflict, wakeups
    )
    reached("after entry")
    return found


def _is_unpublished(entered: Entered | Started) -> bool:
    return entered.state is State.QUEUED and not app.settings.is_one_redis


def _publish_one(message_id: str, message: Message) -> None:
    with left_to_the_scheduler([message_id]):
        publish(app, message_id, message.lane, argsrepr=_shown(message))


def _publish_many(messages: Messages, found: Iterable[Entered | KeyConflict]) -> None:
    _publish_queued([(message_id, message.lane) for message_id, message in messages], found)


def _publish_queued(
    rows: Sequence[tuple[str, Lane]], found: Iterable[Entered | KeyConflict]
) -> None:
    """Publish a wake-up for each lane of those that are queued."""
    queued: dict[Lane, list[str]] = defaultdict(list)
    # After a conflict at which it stopped there are no more answers.
    for (message_id, lane), result in zip(rows, found, strict=False):
        if isinstance(result, Entered) and result.state is State.QUEUED:
            queued[lane].append(message_id)
    for lane, ids in queued.items():
        with left_to_the_scheduler(ids):
            publish_batch(app, ids, lane)


async def _in_thread(publish: Callable[..., None], *args: Any) -> None:
    """Publish in a thread, as kombu blocks; within the caller's deadline, which its context has.

    The thread goes on where the caller is cancelled, as the messages are in the ledger.
    """
    run = copy_context().run
    with suppress(RuntimeError):  # The loop is ending and takes no more: their timers wake them up.
        publishing = asyncio.get_running_loop().run_in_executor(None, run, publish, *args)
        await asyncio.wait([publishing], timeout=max(0.0, deadline.left_s()))


def _shown(message: Message) -> str:
    return f"('{mask_phone(message.phone)}', '{message.template}')"
