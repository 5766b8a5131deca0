"""Logs: their form, and what must not be in them."""

from __future__ import annotations

import logging
from typing import Final

from celery.exceptions import Reject

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class WithoutBodies(logging.Filter):
    """Drops what Celery's consumer prints of messages it cannot take: bodies hold numbers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite such records; let all pass."""
        if record.levelno >= logging.WARNING and "body" in str(record.msg).lower():
            record.msg = "a message that is no task of this worker was dropped; it is not shown"
            record.args = ()
            record.exc_info = None
        return True


class WithoutReturns(logging.Filter):
    """Drops the warning, with a traceback, for each wake-up that was given back to its queue."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let all others pass."""
        return not (record.exc_info and isinstance(record.exc_info[1], Reject))


def quiet() -> None:
    """Keep out of the worker's log what must not be, or says nothing."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(WithoutBodies())
    logging.getLogger("celery.app.trace").addFilter(WithoutReturns())
    # At DEBUG it prints each task with its body.
    logging.getLogger("celery.pool").setLevel(logging.INFO)
