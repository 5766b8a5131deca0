"""The wake-up that makes a worker reconcile reports."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from smsq.contract import RECONCILE_REPORT, REPORT_QUEUE


def publish_reports(app: Celery, reports: Sequence[tuple[str, str]]) -> None:
    """Publish reports (mid, stat) to be reconciled in one act. Raises kombu's OperationalError."""
    app.send_task(
        RECONCILE_REPORT,
        (reports,),
        queue=REPORT_QUEUE,
        argsrepr=repr(tuple(reports[0])) if len(reports) == 1 else f"({len(reports)} reports)",
        kwargsrepr="{}",
        ignore_result=True,
        declare=[],
    )
