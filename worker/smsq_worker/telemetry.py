"""Logs: their form, and what must not be in them."""

from __future__ import annotations

import logging
from typing import Final

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


def hide_bodies() -> None:
    """Keep message bodies out of the worker's log."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(WithoutBodies())
