"""Wake-ups of messages go to the sender, and not one by one to the pool, as celery-batches does it.

Everything before and after stays Celery's: consumers and `-Q`, revoked tasks, `inspect` and its
statistics, events.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import Any, Final

from celery import Task, signals
from celery.exceptions import TaskRevokedError
from celery.worker import state

from smsq.contract import SEND_BATCH, Lane, State
from smsq.ids import is_id
from smsq_worker.celery_worker.sanitizer import MaskedRequest, sanitize
from smsq_worker.sending.wakeup import Source, WakeUp

log = logging.getLogger(__name__)

FAILED: Final = frozenset({State.FAILED, State.EXPIRED, State.HELD})
_LANES: Final = {lane.queue: lane for lane in Lane}


def ids_of_batch(args: Any) -> list[str] | None:
    """Return the ids that a batch has as its argument; None if it is none: anybody can write it."""
    ids = args[0] if len(args) == 1 else None
    return ids if isinstance(ids, list) and ids and all(map(is_id, ids)) else None


class WakeUpRequest(MaskedRequest, Source):
    """A wake-up as Celery knows it. Not all of its methods run in Celery's thread."""

    app: Any
    connection_errors: Any
    consumer: Any
    time_start: float
    worker_pid: Any

    def execute_using_pool(self, pool: Any, **_: Any) -> Any:  # noqa: ARG002
        """Hand the wake-up to the sender. Raises TaskRevokedError."""
        if self.revoked():
            raise TaskRevokedError(self.id)
        wakeup = self._wakeup()
        if wakeup is None:
            log.warning("a batch that is no list of ids was dropped")
            self.begins()
            self.acknowledge()
            self.ends("dropped", "")
            self.app.gate.was_no_probe()
            return
        self.message.wakeup = wakeup
        self.app.runtime.sender.take(wakeup)

    def _wakeup(self) -> WakeUp | None:
        lane = _LANES.get(str(self.delivery_info["routing_key"]), Lane.NOTICE)
        if self.name != SEND_BATCH:
            content = (self.args, self.kwargs) if self.args or self.kwargs else None
            return WakeUp(lane, [self.id], self, content=content)
        ids = ids_of_batch(self.args)
        return WakeUp(lane, ids, self, is_batch=True) if ids else None

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002
        """Send an event over the connection of now; it may have changed since."""
        eventer = self.consumer.event_dispatcher
        if eventer and eventer.enabled:
            eventer.send(type, uuid=self.id, **fields)

    def begins(self) -> None:
        """Show the task as active."""
        self.worker_pid, self.time_start = os.getpid(), time.time()
        state.task_accepted(self)
        self.send_event("task-started")

    def ends(self, word: str, detail: str) -> None:
        """Show in Flower what became of the message; the task itself returned normally."""
        state.task_ready(self, successful=True)
        # Of one that was not submitted: why, and its state. A batch has the counts of many.
        why, _, message_state = ("", "", "") if self.name == SEND_BATCH else word.rpartition(" ")
        text = ": ".join(filter(None, dict.fromkeys((message_state, why or detail))))
        if message_state == State.DEFERRED:
            self.send_event("task-retried", exception=text, traceback=None)
        elif message_state in FAILED:
            self.send_event("task-failed", exception=text, traceback=None)
        elif message_state == State.CANCELLED:
            self.send_event("task-revoked", terminated=False, signum=None, expired=False)
        else:
            runtime = time.time() - self.time_start
            self.send_event("task-succeeded", result=word, runtime=runtime)

    def requeue(self, earlier: Sequence[WakeUpRequest]) -> None:
        """Requeue it, and before it earlier ones."""
        by_channel: dict[Any, list[WakeUpRequest]] = {}
        for request in (self, *reversed(earlier)):
            state.task_ready(request)
            by_channel.setdefault(request.message.channel, []).append(request)
        for channel, requests in by_channel.items():
            try:
                channel.qos.requeue([one.message.delivery_tag for one in requests])
            except self.connection_errors as error:
                log.warning("%d wake-ups are left to their timers: %s", len(requests), error)
        for request in (self, *earlier):
            request.acknowledged = True
            request.send_event("task-rejected", requeue=True)


def strategy(task: Task[Any, Any], app: Any, consumer: Any, **_: Any) -> Any:
    """Return what takes a message: Celery's default strategy, without what smsq refuses anyway.

    A countdown, `eta` and `expires` are removed by `sanitize`, and the message fails.
    """

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        if body is None:
            sanitize(message)
        if not message.channel.qos.is_kept(message.delivery_tag):
            # Nothing in Redis is to be changed, so any thread may do it.
            ack, reject = message.ack_log_error, message.reject_log_error
        request = WakeUpRequest(
            message,
            on_ack=ack,
            on_reject=reject,
            app=app,
            hostname=consumer.hostname,
            task=task,
            connection_errors=consumer.connection_errors,
            body=message.body,
            headers=message.headers,
        )
        request.consumer = consumer
        if request.revoked():
            app.gate.was_no_probe()
            return
        signals.task_received.send(sender=consumer, request=request)
        request.send_event(
            "task-received",
            name=request.name,
            args=request.argsrepr,
            kwargs=request.kwargsrepr,
            root_id=request.root_id,
            parent_id=None,
            retries=0,
            eta=None,
            expires=None,
        )
        state.task_reserved(request)
        for callback in callbacks:
            callback(request)
        consumer.on_task_request(request)

    return take
