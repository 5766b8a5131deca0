"""The ledger in Redis, as a producer uses it: what every call does, and within which time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from smsq import deadline, tracing, wakeup
from smsq.app import app
from smsq.cancelling import Cancellation, cancelling
from smsq.contract import Lane, Message, State, mask_phone
from smsq.entries import NO_ORIGIN, Entered, Origin
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq.ledger_writer import WakeUp
from smsq.publishing import left_to_the_scheduler, publish, publish_batch
from smsq.steps import CallSteps, Steps
from smsq.tracking import Status, reading

if TYPE_CHECKING:
    from smsq.verify.challenge import Challenge
    from smsq.verify.rules import Guess, Wanted

Messages = Sequence[tuple[str, Message]]


class RedisLedger:
    """Writes messages together with their wake-ups, and reads them."""

    def entering(
        self, message_id: str, message: Message, origin: Origin = NO_ORIGIN
    ) -> CallSteps[Entered]:
        """Write a message; in one act with its wake-up where broker and ledger are one Redis."""
        with _in_time(), _traced_one(message_id, message) as span:
            traced = replace(origin, trace=span.traceparent) if span.traceparent else origin
            own = _own_wakeup(message_id, message)
            reached("before entry")
            entered = yield from app.ledger_writer.entering(message_id, message, traced, own)
            span.tell({"state": entered.state})
            reached("after entry")
            if own is None and entered.state is State.QUEUED:
                yield partial(_publish_one, message_id, message)
            return entered

    def entering_many(
        self, messages: Messages, stop_at_conflict: bool
    ) -> CallSteps[list[Entered | KeyConflict]]:
        """Write messages in one act, with a wake-up for each lane; return the result of each."""
        # One span for all: one for each message would cost too much and flood its trace.
        with _in_time(), tracing.sending({"messages": len(messages)}) as span:
            origin = Origin(trace=span.traceparent)
            entries = yield from app.ledger_writer.making_entries(messages, origin)
            return (yield from self.entering_entries(entries, stop_at_conflict))

    def entering_entries(
        self, entries: Sequence[tuple[Any, ...]], stop_at_conflict: bool = False
    ) -> CallSteps[list[Entered | KeyConflict]]:
        """Write what `as_entry` made in one act, with a wake-up for each lane."""
        is_one = app.settings.is_one_redis
        wakeups = wakeup.of_batches(app, {entry[1] for entry in entries}) if is_one else ()
        writer = app.ledger_writer
        reached("before entry")
        with _in_time():
            found = yield from writer.entering_entries(entries, stop_at_conflict, wakeups)
            reached("after entry")
            if not is_one:
                yield partial(_publish_queued, entries, found)
            return found

    def reading(self, message_id: str) -> Steps[Status | None]:
        """Read a message; None for one that is unknown."""
        with _in_time():
            return (yield from reading(app.settings.redis_url, message_id))

    def cancelling(self, message_id: str) -> Steps[Cancellation | None]:
        """Cancel a message; None for one that is unknown."""
        with _in_time():
            (found,) = yield from cancelling(app.settings, [message_id])
            return found

    def starting(self, wanted: Wanted) -> CallSteps[Challenge]:
        """Start a challenge and enter its message, or return the one that there is."""
        from smsq.verify.redis_store import starting

        message_id, message = wanted.message_id, wanted.message
        with _in_time(), _traced_one(message_id, message) as span:
            own = _own_wakeup(message_id, message)
            challenge, state = yield from starting(wanted, span, own)
            if own is None and state is State.QUEUED:
                yield partial(_publish_one, message_id, message)
            return challenge

    def checking(self, guess: Guess) -> Steps[bool]:
        """Return whether a code is its challenge's, and use it up."""
        from smsq.verify.redis_store import checking

        with _in_time():
            return (yield from checking(guess))


def _in_time() -> deadline.within:
    return deadline.within(app.settings.enqueue_timeout_s)


def _traced_one(message_id: str, message: Message) -> AbstractContextManager[tracing.Sending]:
    return tracing.sending({"id": message_id, "lane": message.lane, "template": message.template})


def _own_wakeup(message_id: str, message: Message) -> WakeUp | None:
    """Return what the act pushes itself, where broker and ledger are one Redis."""
    if not app.settings.is_one_redis:
        return None
    return wakeup.of_one(app, message_id, message.lane, _shown(message))


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


def _shown(message: Message) -> str:
    return f"('{mask_phone(message.phone)}', '{message.template}')"
