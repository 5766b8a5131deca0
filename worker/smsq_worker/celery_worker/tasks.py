"""The Celery tasks: thin adapters over the runtime's parts."""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.exceptions import Reject

from smsq.contract import NOTIFY_OUTCOME, RECONCILE_REPORT, SEND_BATCH, SEND_SMS
from smsq.errors import LedgerUnavailable
from smsq_worker.celery_worker.app import WorkerApp
from smsq_worker.sending.consumer_gate import RequeueLater


class SafeTask(Task):  # type: ignore[type-arg]
    """A task whose messages come from anywhere and whose arguments nobody may see."""

    Request = "smsq_worker.celery_worker.sanitizer:PoolRequest"
    Strategy = "smsq_worker.celery_worker.sanitizer:strategy"
    # Expected, so without a traceback: the ledger's timers repeat what this interrupts.
    throws = (LedgerUnavailable,)


class GatheredTask(SafeTask):
    """A task whose messages go to the sender, many at a time; its body never runs."""

    Request = "smsq_worker.celery_worker.gathering:WakeUpRequest"
    Strategy = "smsq_worker.celery_worker.gathering:strategy"


def register(app: WorkerApp) -> None:
    """Add the tasks to the app."""
    for name in (SEND_SMS, SEND_BATCH):
        app.task(name=name, base=GatheredTask, shared=False)(_is_sent_by_the_sender)

    @app.task(name=RECONCILE_REPORT, base=SafeTask, shared=False)
    def reconcile_report(reports: Any, stat: str | None = None) -> str:
        # One report, (mid, stat), is how others and earlier versions write it.
        return app.runtime.reconciler.reconcile(reports if stat is None else [(reports, stat)])

    @app.task(name=NOTIFY_OUTCOME, base=SafeTask, shared=False)
    def notify_outcome(name: str) -> str:
        try:
            with app.gate.dispatching():
                return app.runtime.dispatcher.dispatch(name)
        except RequeueLater as why:
            raise Reject(why, requeue=True) from None


def _is_sent_by_the_sender(*_: Any, **__: Any) -> None:
    raise NotImplementedError
