"""The clock as a part of a Celery worker: a thread that starts and stops with it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

from celery import bootsteps
from kombu import Connection
from kombu.exceptions import ChannelError, OperationalError

from smsq.contract import Lane
from smsq.tasks import publish
from smsq_worker.app import WorkerApp
from smsq_worker.clock import Clock
from smsq_worker.gate import GATE
from smsq_worker.tasks import publish_report


class ClockStep(bootsteps.StartStopStep):
    """Starts the clock after the pool and stops it before."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, parent: Any) -> None:
        """Start the thread."""
        self._thread = Thread(target=self._run, args=(parent.app,), name="smsq-clock", daemon=True)
        self._thread.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """End the thread; a tick under way is finished."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self, app: WorkerApp) -> None:
        runtime = app.runtime
        with app.connection_for_write() as connection:
            clock = Clock(
                runtime.ledger,
                runtime.backoff,
                runtime.recorder,
                gate=GATE,
                empty_lanes=lambda: empty_lanes(connection),
                publish_message=lambda message_id, lane: publish(app, message_id, lane),
                publish_report=lambda mid, stat: publish_report(app, mid, stat),
            )
            clock.run(self._stop, (OperationalError, OSError, *connection.connection_errors))


def empty_lanes(connection: Connection) -> Iterator[Lane]:
    """Name the lanes in whose queue no wake-up waits."""
    channel: Any = connection.default_channel
    for lane in Lane:
        try:
            waiting = channel.queue_declare(lane.queue, passive=True)
        except ChannelError:  # kombu's way to say that a queue of no messages is not there
            yield lane
        else:
            if not waiting.message_count:
                yield lane
