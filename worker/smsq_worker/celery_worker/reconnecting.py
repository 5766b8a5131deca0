"""A consumer connects again after whatever says that the broker is away, and its worker lives."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from kombu.exceptions import OperationalError


class ReconnectingStep(bootsteps.Step):
    """Has the consumer take kombu's own error for a lost connection.

    A broker that falls silent while a worker starts, right after it has connected, is met by a part
    of Celery that connects by itself and raises that: to Celery it is unrecoverable.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        parent.connection_errors = (*parent.connection_errors, OperationalError)
