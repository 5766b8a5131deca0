"""The scheduler as a part of a Celery worker: a thread that starts and stops with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from threading import Event, Thread
from typing import Any

from celery import bootsteps
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

from smsq import wakeup
from smsq.contract import NOTIFY_OUTCOME, NOTIFY_QUEUE, Lane
from smsq.publishing import publish, publish_batch, publish_reports
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.celery_worker.envelope import MAX_ENVELOPE
from smsq_worker.celery_worker.liveness import Liveness
from smsq_worker.celery_worker.misplaced import misplaced
from smsq_worker.infra.failure_log import FailureLog
from smsq_worker.infra.heartbeat import Heartbeat
from smsq_worker.infra.memory import is_full
from smsq_worker.infra.wakeups import OLDEST, some_ids
from smsq_worker.ledger import emptied
from smsq_worker.ledger.functions import Keeper
from smsq_worker.ledger.types import BATCH, FEW
from smsq_worker.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)


class SchedulerStep(bootsteps.StartStopStep):
    """Starts the scheduler after the pool and stops it before."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, parent: Any) -> None:
        """Start the thread."""
        parent.app.gate.set_threads(parent.concurrency)
        parent.app.runtime.sender.limit(parent.concurrency)
        arguments = (parent.app, Heartbeat(parent.app.settings.home, parent.hostname))
        self._thread = Thread(target=self._run, args=arguments, name="smsq-scheduler", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:
        """End the thread, after the current tick, and the attempts."""
        self._stop.set()
        parent.app.gate.stop()
        parent.app.runtime.sender.stop()
        if consumer := getattr(parent.consumer, "task_consumer", None):
            consumer.channel.end_poll()
        parent.app.runtime.sender.wait_for_attempts()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self, app: WorkerApp, heartbeat: Heartbeat) -> None:
        wait_s, failures = 0.0, FailureLog(log, "the scheduler's thread")
        while not self._stop.wait(wait_s):
            try:
                self._schedule(app, heartbeat)
            except Exception as error:  # noqa: BLE001 - without the thread every timer stops
                wait_s = failures.fails(error)
        heartbeat.end()

    def _schedule(self, app: WorkerApp, heartbeat: Heartbeat) -> None:
        runtime = app.runtime
        with app.connection_for_write() as connection:
            scheduler = Scheduler(
                runtime.ledger,
                runtime.callbacks,
                runtime.backoff,
                runtime.result_spool,
                gate=app.gate,
                queues=_BrokerQueues(app, connection),
                chores=(
                    Keeper(runtime.client, app.settings.redis_url).keep,
                    emptied.Watch(runtime.client, app.settings.redis_url).look,
                    partial(misplaced.tell, runtime.ledger),
                ),
                reconcile=runtime.reconciler.reconcile,
            )
            # Channel errors: the answers of a replica, or of a server with too few of them.
            errors = (*connection.connection_errors, *connection.channel_errors)
            beat = Liveness(heartbeat, runtime.sender, app.gate).beat
            scheduler.run(self._stop, (OperationalError, OSError, *errors), beat)


class _BrokerQueues:
    """The scheduler's Queues. Every method raises what kombu raises."""

    def __init__(self, app: WorkerApp, connection: Connection) -> None:
        self._app = app
        self._connection = connection
        self.wakeups = wakeup.for_the_scheduler(app) if app.settings.is_one_redis else ""

    @property
    def _channel(self) -> Any:
        return self._connection.default_channel

    def oldest(self) -> dict[Lane, list[str]]:
        oldest = self._channel.client.register_script(OLDEST)
        found = oldest(keys=[lane.queue for lane in Lane], args=[MAX_ENVELOPE])
        return {
            lane: [] if text is None else some_ids(text)
            for lane, text in zip(Lane, found, strict=True)
        }

    def is_full(self) -> bool:
        return is_full(self._channel.client)

    def waiting(self, queue: str) -> int:
        try:
            return int(self._channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # how kombu says that the queue is empty
            return 0

    def publish_messages(self, ids: Sequence[str], lane: Lane) -> None:
        """Publish one for many, or one for each of a few."""
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            if len(some) > FEW:
                publish_batch(self._app, some, lane)
                continue
            for message_id in some:
                publish(self._app, message_id, lane)

    def publish_report(self, mid: str, stat: str) -> None:
        # Alone, so that an invalid one blocks no other.
        publish_reports(self._app, [(mid, stat)])

    def publish_callback(self, name: str) -> None:
        self._app.send_task(NOTIFY_OUTCOME, (name,), queue=NOTIFY_QUEUE, ignore_result=True)
