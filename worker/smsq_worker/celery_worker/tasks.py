"""The Celery tasks: thin adapters over the runtime's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task
from celery.exceptions import Reject

from smsq.contract import NOTIFY_OUTCOME, RECONCILE_REPORT, SEND_BATCH, SEND_SMS, Lane
from smsq.errors import LedgerUnavailable
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.sending.consumer_gate import RequeueLater


class SafeTask(Task):  # type: ignore[type-arg]
    """A task whose messages come from anywhere and whose arguments nobody may see."""

    Request = "smsq_worker.celery_worker.sanitizer:MaskedRequest"
    Strategy = "smsq_worker.celery_worker.sanitizer:strategy"
    # Expected, so without a traceback: the ledger's timers repeat what this interrupts.
    throws = (LedgerUnavailable,)


def register(app: WorkerApp) -> None:
    """Add the tasks to the app."""

    @app.task(name=SEND_SMS, base=SafeTask, bind=True, shared=False)
    def send_sms(self: Task[Any, Any], *args: Any, **kwargs: Any) -> str:
        with _requeued_if_later(app):
            lane = lane_of(self.request.delivery_info)
            return app.runtime.sender.send(str(self.request.id), lane, args, kwargs)

    @app.task(name=SEND_BATCH, base=SafeTask, bind=True, shared=False)
    def send_batch(self: Task[Any, Any], ids: list[str]) -> str:
        with _requeued_if_later(app):
            return app.runtime.batch_sender.send(ids, lane_of(self.request.delivery_info))

    @app.task(name=RECONCILE_REPORT, base=SafeTask, shared=False)
    def reconcile_report(reports: Any, stat: str | None = None) -> str:
        # One report, (mid, stat), is how others and earlier versions write it.
        return app.runtime.reconciler.reconcile(reports if stat is None else [(reports, stat)])

    @app.task(name=NOTIFY_OUTCOME, base=SafeTask, shared=False)
    def notify_outcome(name: str) -> str:
        with _requeued_if_later(app), app.gate.dispatching():
            return app.runtime.dispatcher.dispatch(name)


@contextmanager
def _requeued_if_later(app: WorkerApp) -> Iterator[None]:
    """Requeue the wake-up if its message is to be sent later."""
    try:
        if app.stopping.is_set():
            raise RequeueLater("the worker is stopping")  # noqa: TRY301
        yield
    except RequeueLater as why:
        raise Reject(why, requeue=True) from None


def lane_of(delivery_info: Any) -> Lane:
    """Return the lane of the queue that a wake-up came by."""
    queue = (delivery_info or {}).get("routing_key")
    return next((lane for lane in Lane if lane.queue == queue), Lane.NOTICE)
