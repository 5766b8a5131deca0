"""The Celery tasks: thin adapters over `delivery` and `reports`."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject

from smsq.contract import RECONCILE_REPORT, REPORT_QUEUE, SEND_SMS, Lane
from smsq.errors import LedgerUnavailable
from smsq_worker.app import WorkerApp
from smsq_worker.turnstile import NotNow


class SafeTask(Task):  # type: ignore[type-arg]
    """A task whose messages come from anywhere and whose arguments nobody may see."""

    Request = "smsq_worker.intake:MaskedRequest"
    Strategy = "smsq_worker.intake:strategy"
    # Expected, and so without a traceback: the ledger's timers bring back what this stops.
    throws = (LedgerUnavailable,)


def register(app: WorkerApp) -> None:
    """Give the app its tasks."""

    @app.task(name=SEND_SMS, base=SafeTask, bind=True, shared=False)
    def send_sms(self: Task[Any, Any], *args: Any, **kwargs: Any) -> str:
        if app.stopping.is_set():
            raise Reject("the worker is stopping", requeue=True)
        lane = lane_of(self.request.delivery_info)
        try:
            return app.runtime.delivery.deliver(str(self.request.id), lane, args, kwargs)
        except NotNow as why:
            raise Reject(str(why), requeue=True) from None

    @app.task(name=RECONCILE_REPORT, base=SafeTask, shared=False)
    def reconcile_report(mid: str, stat: str) -> str:
        return app.runtime.reports.reconcile(mid, stat)


def lane_of(delivery_info: Any) -> Lane:
    """Give the lane of the queue that a wake-up came by."""
    queue = (delivery_info or {}).get("routing_key")
    return next((lane for lane in Lane if lane.queue == queue), Lane.NOTICE)


def publish_report(app: Celery, mid: str, stat: str) -> None:
    """Publish a report for reconciliation. Raises kombu's OperationalError."""
    app.send_task(RECONCILE_REPORT, (mid, stat), queue=REPORT_QUEUE, ignore_result=True)
