"""Celery's own logs: their format, and what must not be in them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import celery.apps.worker
from celery import signals
from celery.exceptions import Reject
from celery.utils.log import get_multiprocessing_logger
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from smsq_worker.infra import logs


def _hide_bodies(record: logging.LogRecord) -> bool:
    """Rewrite what Celery's consumer logs of messages it cannot take: bodies hold numbers."""
    if record.levelno >= logging.WARNING and "body" in str(record.msg).lower():
        record.msg = "a message that is no task of this worker was dropped; it is not shown"
        record.args = ()
        record.exc_info = None
    return True


def _is_no_requeue(record: logging.LogRecord) -> bool:
    """Drop the warning, with a traceback, for each wake-up that was given back to its queue."""
    return not (record.exc_info and isinstance(record.exc_info[1], Reject))


def _shorten_lost_connection(record: logging.LogRecord) -> bool:
    """Log a lost connection as one line; it costs each wake-up 80 at CRITICAL, a consumer 30."""
    if str(record.msg).startswith(("Couldn't ack", "Couldn't reject")):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = None
    elif record.exc_info and str(record.msg).startswith("consumer: Connection to broker lost"):
        error = record.exc_info[1]
        if isinstance(error, RedisError | OperationalError):
            record.msg, record.args = f"{record.msg} (%s)", (error,)
            record.exc_info = None
    return True


def _is_not_of_our_setting(record: logging.LogRecord) -> bool:
    """Drop Celery's advice, at each lost connection, on a setting that worker_config has."""
    return "worker_cancel_long_running_tasks_on_connection_loss" not in record.getMessage()


def add_filters() -> None:
    """Keep out of the worker's log what must not be shown, or is of no use."""
    consumer = logging.getLogger("celery.worker.consumer.consumer")
    consumer.addFilter(_hide_bodies)
    consumer.addFilter(_shorten_lost_connection)
    logging.getLogger("py.warnings").addFilter(_is_not_of_our_setting)
    logging.getLogger("celery.app.trace").addFilter(_is_no_requeue)
    logging.getLogger("celery.worker.request").addFilter(_shorten_lost_connection)
    # At DEBUG it prints each task with its body.
    logging.getLogger("celery.pool").setLevel(logging.INFO)


def ignore_print_errors() -> None:
    """Stop on a signal though Celery cannot print that it does, as on a full disk.

    Celery prints first, in the signal's handler, and an error there would keep it from stopping.
    """
    worker: Any = celery.apps.worker
    say = worker.safe_say

    def say_if_possible(*args: Any) -> None:
        with suppress(OSError):
            say(*args)

    worker.safe_say = say_if_possible


def use_json(worker: Any) -> None:
    """Make a worker that is about to start log JSON, to where its options say."""
    worker.quiet = True  # Its banner is no JSON.
    # Until Celery sets its own: the warning that root should not run it comes earlier.
    logs.to_stderr("json", worker=worker.hostname)
    formatter = logs.JsonLines(worker.hostname)
    _format(lambda _: formatter)


def use_plain_text() -> None:
    """Make a worker that is about to start escape what is foreign in its log."""
    _format(lambda before: logs.PlainLines(before or logging.Formatter(logs.FORMAT)))


def _format(formatter: Callable[[logging.Formatter | None], logging.Formatter]) -> None:
    """Replace the formatters of the handlers that Celery makes."""

    def use(logger: logging.Logger, **_: Any) -> None:
        for one in (logger, get_multiprocessing_logger()):
            for handler in one.handlers if one else ():
                if not isinstance(handler.formatter, logs.JsonLines | logs.PlainLines):
                    handler.setFormatter(formatter(handler.formatter))

    signals.after_setup_logger.connect(use, weak=False)
    signals.after_setup_task_logger.connect(use, weak=False)
