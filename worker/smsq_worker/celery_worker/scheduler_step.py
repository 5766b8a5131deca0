"""The clock as a part of a Celery worker: a thread that starts and stops with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any, Final

from celery import bootsteps
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

from smsq.contract import NOTIFY_OUTCOME, NOTIFY_QUEUE, Lane
from smsq.tasks import publish, publish_batch
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.celery_worker.envelope import MAX_ENVELOPE
from smsq_worker.delivery_reports.publish import publish_reports
from smsq_worker.infra.heartbeat import Heartbeat
from smsq_worker.infra.memory import is_full
from smsq_worker.infra.trouble import FailureLog
from smsq_worker.infra.wakeups import OLDEST, some_ids
from smsq_worker.scheduler.scheduler import Scheduler
from smsq_worker.sending.consumer_gate import GATE

log = logging.getLogger(__name__)

BATCH: Final = 100
FEW: Final = 4
"""So few messages are woken up one by one: a batch of them would not be cheaper."""


class SchedulerStep(bootsteps.StartStopStep):
    """Starts the clock after the pool and stops it before."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, parent: Any) -> None:
        """Start the thread."""
        GATE.threads(parent.concurrency)
        alive = Heartbeat(parent.app.settings.home, parent.hostname)
        arguments = (parent.app, alive)
        self._thread = Thread(target=self._run, args=arguments, name="smsq-clock", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """End the thread; a tick under way is finished."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self, app: WorkerApp, alive: Heartbeat) -> None:
        wait_s, trouble = 0.0, FailureLog(log, "the clock's thread")
        while not self._stop.wait(wait_s):
            try:
                self._tick(app, alive)
            except Exception as error:  # noqa: BLE001 - nothing else would end the process
                wait_s = trouble.fails(error)
        alive.end()

    def _tick(self, app: WorkerApp, alive: Heartbeat) -> None:
        runtime = app.runtime
        with app.connection_for_write() as connection:
            clock = Scheduler(
                runtime.ledger,
                runtime.callbacks,
                runtime.backoff,
                runtime.recorder,
                gate=GATE,
                queues=BrokerQueues(app, connection),
            )
            # Of channel_errors: what a replica answers, or a server without enough of them.
            errors = (*connection.connection_errors, *connection.channel_errors)
            clock.run(self._stop, (OperationalError, OSError, *errors), alive.beat)


class BrokerQueues:
    """The queues as the clock uses them. Every method raises what kombu raises."""

    def __init__(self, app: WorkerApp, connection: Connection) -> None:
        self._app = app
        self._connection = connection

    def oldest(self) -> dict[Lane, list[str]]:
        """Return the ids of the oldest wake-up in each lane's queue, none where it is empty."""
        channel: Any = self._connection.default_channel
        oldest = channel.client.register_script(OLDEST)
        found = oldest(keys=[lane.queue for lane in Lane], args=[MAX_ENVELOPE])
        return {
            lane: [] if text is None else some_ids(text)
            for lane, text in zip(Lane, found, strict=True)
        }

    def is_full(self) -> bool:
        """Return whether the broker is at its memory limit, where it takes no wake-up."""
        channel: Any = self._connection.default_channel
        return is_full(channel.client)

    def notices(self) -> int:
        """Count the wake-ups that wait in the queue of outcomes."""
        return self._waiting(NOTIFY_QUEUE)

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        """Publish the wake-ups of messages of one lane: one for many, or one for each of a few."""
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            if len(some) > FEW:
                publish_batch(self._app, some, lane)
                continue
            for message_id in some:
                publish(self._app, message_id, lane)

    def publish_report(self, mid: str, stat: str) -> None:
        """Publish a report's."""
        # Alone, so that one which cannot be applied keeps no other from it for ever.
        publish_reports(self._app, [(mid, stat)])

    def publish_notice(self, name: str) -> None:
        """Publish an outcome's."""
        self._app.send_task(NOTIFY_OUTCOME, (name,), queue=NOTIFY_QUEUE, ignore_result=True)

    def _waiting(self, queue: str) -> int:
        channel: Any = self._connection.default_channel
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # kombu's way to say that a queue of no messages is not there
            return 0
