"""The ledger in Redis, as a producer uses it: what every call does, and within which time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from smsq import deadline, tracing, wakeup
from smsq.app import app
from smsq.cancelling import Cancellation
from smsq.contract import Lane, Message, State, mask_phone
from smsq.errors import KeyConflict
from smsq.failpoints import reached
from smsq.ledger_writer import NO_ORIGIN, BatchWakeUp, Entered, Origin
from smsq.publishing import left_to_the_scheduler, publish, publish_batch
from smsq.tracking import Status, read_status


class RedisLedger:
    """Writes messages together with their wake-ups, and reads them."""

    def enter(self, message_id: str, message: Message, origin: Origin = NO_ORIGIN) -> Entered:
        """Write a message; in one act with its wake-up where broker and ledger are one Redis."""
        known = {"id": message_id, "lane": message.lane, "template": message.template}
        shown = f"('{mask_phone(message.phone)}', '{message.template}')"
        within = deadline.within(app.settings.enqueue_timeout_s)
        with within, tracing.sending(known) as span:
            traced = replace(origin, trace=span.traceparent) if span.traceparent else origin
            own = None
            if app.settings.is_one_redis:
                own = wakeup.of_one(app, message_id, message.lane, shown)
            reached("before entry")
            entered = app.ledger_writer.enter_one(message_id, message, traced, own)
            span.tell({"state": entered.state})
            reached("after entry")
            if entered.state is State.QUEUED and own is None:
                with left_to_the_scheduler([message_id]):
                    publish(app, message_id, message.lane, argsrepr=shown)
            return entered

    def enter_many(
        self, messages: Sequence[tuple[str, Message]], *, stop_at_conflict: bool = False
    ) -> list[Entered | KeyConflict]:
        """Write messages in one act, with a wake-up for each lane; return the result of each."""
        # One span for all: one for each message would cost too much and flood its trace.
        with (
            deadline.within(app.settings.enqueue_timeout_s),
            tracing.sending({"messages": len(messages)}) as span,
        ):
            wakeups: Sequence[BatchWakeUp] = ()
            if app.settings.is_one_redis:
                wakeups = wakeup.of_batches(app, {message.lane for _, message in messages})
            reached("before entry")
            found = app.ledger_writer.enter_many(
                messages,
                Origin(trace=span.traceparent),
                stop_at_conflict=stop_at_conflict,
                wakeups=wakeups,
            )
            reached("after entry")
            if not app.settings.is_one_redis:
                # After a conflict at which it stopped there are no more answers.
                _publish(zip(messages, found, strict=False))
            return found

    def status(self, message_id: str) -> Status | None:
        """Read a message; None for one that is unknown."""
        with deadline.within(app.settings.enqueue_timeout_s):
            return read_status(app.client, app.settings.redis_url, message_id)

    def cancel(self, message_id: str) -> Cancellation | None:
        """Cancel a message; None for one that is unknown."""
        with deadline.within(app.settings.enqueue_timeout_s):
            (answer,) = app.canceller.cancel([message_id])
            return answer


def _publish(results: Iterable[tuple[tuple[str, Message], Entered | KeyConflict]]) -> None:
    """Publish a wake-up for each lane of those that are queued."""
    queued: dict[Lane, list[str]] = defaultdict(list)
    for (message_id, message), found in results:
        if isinstance(found, Entered) and found.state is State.QUEUED:
            queued[message.lane].append(message_id)
    for lane, ids in queued.items():
        with left_to_the_scheduler(ids):
            publish_batch(app, ids, lane)
