"""The Celery tasks: thin adapters over `delivery`, `reports` and `notifier`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task
from celery.exceptions import Reject

from smsq.contract import NOTIFY_OUTCOME, RECONCILE_REPORT, SEND_BATCH, SEND_SMS, Lane
from smsq.errors import LedgerUnavailable
from smsq_worker.celery_worker import transport
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.sending.consumer_gate import GATE, RequeueLater


class SafeTask(Task):  # type: ignore[type-arg]
    """A task whose messages come from anywhere and whose arguments nobody may see."""

    Request = "smsq_worker.celery_worker.sanitizer:MaskedRequest"
    Strategy = "smsq_worker.celery_worker.sanitizer:strategy"
    # Expected, and so without a traceback: the ledger's timers bring back what this stops.
    throws = (LedgerUnavailable,)


def register(app: WorkerApp) -> None:
    """Give the app its tasks."""

    @app.task(name=SEND_SMS, base=SafeTask, bind=True, shared=False)
    def send_sms(self: Task[Any, Any], *args: Any, **kwargs: Any) -> str:
        with _given_back_if_not_now(app):
            lane = lane_of(self.request.delivery_info)
            return app.runtime.delivery.deliver(str(self.request.id), lane, args, kwargs)

    @app.task(name=SEND_BATCH, base=SafeTask, bind=True, shared=False)
    def send_batch(self: Task[Any, Any], ids: list[str]) -> str:
        with _given_back_if_not_now(app):
            try:
                return app.runtime.batches.deliver(ids, lane_of(self.request.delivery_info))
            except RequeueLater as why:
                properties: Any = self.request.properties
                transport.leave(properties["delivery_tag"], why.left)
                raise

    @app.task(name=RECONCILE_REPORT, base=SafeTask, shared=False)
    def reconcile_report(reports: Any, stat: str | None = None) -> str:
        # One report, (mid, stat), is how others and earlier versions write it.
        return app.runtime.reconciler.reconcile(reports if stat is None else [(reports, stat)])

    @app.task(name=NOTIFY_OUTCOME, base=SafeTask, shared=False)
    def notify_outcome(name: str) -> str:
        with _given_back_if_not_now(app), GATE.telling():
            return app.runtime.dispatcher.dispatch(name)


@contextmanager
def _given_back_if_not_now(app: WorkerApp) -> Iterator[None]:
    """Give the wake-up back to its queue where it is not its time."""
    try:
        if app.stopping.is_set():
            raise RequeueLater("the worker is stopping")  # noqa: TRY301
        yield
    except RequeueLater as why:
        raise Reject(str(why), requeue=True) from None


def lane_of(delivery_info: Any) -> Lane:
    """Give the lane of the queue that a wake-up came by."""
    queue = (delivery_info or {}).get("routing_key")
    return next((lane for lane in Lane if lane.queue == queue), Lane.NOTICE)
