"""Celery's own logs: their form, and what must not be in them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import celery.apps.worker
from celery import signals
from celery.exceptions import Reject
from celery.utils.log import get_multiprocessing_logger

from smsq_worker.infra import logs


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


class InOneLine(logging.Filter):
    """Cuts what a lost connection leaves of each wake-up, 80 lines at CRITICAL: all come again."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite such records; let all pass."""
        if str(record.msg).startswith(("Couldn't ack", "Couldn't reject")):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = None
        return True


def quiet() -> None:
    """Keep out of the worker's log what must not be, or says nothing."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(WithoutBodies())
    logging.getLogger("celery.app.trace").addFilter(WithoutReturns())
    logging.getLogger("celery.worker.request").addFilter(InOneLine())
    # At DEBUG it prints each task with its body.
    logging.getLogger("celery.pool").setLevel(logging.INFO)


def stop_without_words() -> None:
    """Let a signal stop the worker though Celery cannot print that it does, as on a full disk.

    Celery prints first, in the signal's handler, and what that raises would be the end of it.
    """
    worker: Any = celery.apps.worker
    say = worker.safe_say

    def say_if_possible(*args: Any) -> None:
        with suppress(OSError):
            say(*args)

    worker.safe_say = say_if_possible


def as_json(worker: Any) -> None:
    """Have a worker that is about to start log JSON, to where its options say."""
    worker.quiet = True  # Its banner is none.
    # Until Celery sets its own: the warning that root should not run it comes earlier.
    logs.to_stderr("json", worker=worker.hostname)
    form = logs.JsonLines(worker.hostname)

    def use(logger: logging.Logger, **_: Any) -> None:
        for one in (logger, get_multiprocessing_logger()):
            for handler in one.handlers if one else ():
                handler.setFormatter(form)

    signals.after_setup_logger.connect(use, weak=False)
    signals.after_setup_task_logger.connect(use, weak=False)
