"""Wake-ups as Celery messages, for a broker that is not the ledger's Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from celery import Celery

from smsq import deadline
from smsq.app import app
from smsq.contract import RECONCILE_REPORT, REPORT_QUEUE, SEND_BATCH, SEND_SMS, Lane
from smsq.errors import LedgerUnavailable

log = logging.getLogger(__name__)

PUBLISH_SHARE: Final = 0.75
"""Share of the time left; what remains is for noting that the publication failed."""


def publish(celery: Celery, message_id: str, lane: Lane, *, argsrepr: str = "()") -> None:
    """Publish a message's wake-up. Raises kombu's OperationalError."""
    _publish(celery, SEND_SMS, lane.queue, (), argsrepr, task_id=message_id)


def publish_batch(celery: Celery, ids: Sequence[str], lane: Lane) -> None:
    """Publish one wake-up for many messages of a lane. Raises kombu's OperationalError."""
    _publish(celery, SEND_BATCH, lane.queue, (ids,), f"({len(ids)} messages)")


def publish_reports(celery: Celery, reports: Sequence[tuple[str, str]]) -> None:
    """Publish one wake-up for reports (mid, stat). Raises kombu's OperationalError."""
    shown = repr(tuple(reports[0])) if len(reports) == 1 else f"({len(reports)} reports)"
    _publish(celery, RECONCILE_REPORT, REPORT_QUEUE, (reports,), shown)


def _publish(
    celery: Celery, task: str, queue: str, args: tuple[Any, ...], argsrepr: str, **options: Any
) -> None:
    celery.send_task(
        task,
        args,
        queue=queue,
        argsrepr=argsrepr,
        kwargsrepr="{}",
        ignore_result=True,
        declare=[],  # Redis needs none, and it would be one more round trip.
        **options,
    )


@contextmanager
def left_to_the_scheduler(ids: Sequence[str]) -> Iterator[None]:
    """Publish wake-ups in the block; if that fails, a worker's scheduler does it.

    The messages are in the ledger. No exception leaves the block: to a caller it would mean that
    nothing is sent.
    """
    try:
        with deadline.within(PUBLISH_SHARE * deadline.left_s()):
            yield
    except Exception as error:  # noqa: BLE001
        name = ids[0] if len(ids) == 1 else f"a batch of {len(ids)}"
        told = f"{type(error).__name__}: {error}"
        log.warning("%s is in the ledger; its wake-up was not published: %s", name, told)
        try:
            for message_id in ids:
                app.ledger_writer.unpublished(message_id)
        except LedgerUnavailable:
            log.warning("%s will be woken up by its timer", name)
