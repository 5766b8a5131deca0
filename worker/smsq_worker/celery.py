"""The worker's Celery app: `celery -A smsq_worker worker` finds it here.

Importing this module reads the environment: it is an entry point, and a mistake in the settings
must end it with one clear message, not with a traceback from within Celery.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from _thread import start_new_thread
from contextlib import suppress
from itertools import count
from queue import SimpleQueue
from threading import Timer
from typing import Any, Final

from celery import signals

from smsq import deadline
from smsq.errors import LedgerUnavailable, SettingsError
from smsq.settings import unknown
from smsq_worker.celery_worker import celery_logs, hangup, remote_control, tasks, transport
from smsq_worker.celery_worker.app import WorkerApp, worker_config
from smsq_worker.celery_worker.options import doubtful, refused, refused_pool
from smsq_worker.celery_worker.reconnecting import ReconnectingStep
from smsq_worker.celery_worker.scheduler_step import SchedulerStep
from smsq_worker.i18n import Lang
from smsq_worker.i18n.told import told
from smsq_worker.infra import otel


def create_app() -> WorkerApp:
    """Build the worker's Celery app. Raises SettingsError."""
    transport.install()
    worker_app = WorkerApp("smsq_worker", set_as_current=False, fixups=[])
    _ = worker_app.settings
    worker_app.add_defaults(lambda: worker_config(worker_app.settings))
    worker_app.steps["worker"].add(SchedulerStep)
    worker_app.steps["consumer"].add(ReconnectingStep)
    tasks.register(worker_app)
    return worker_app


def _exit_with(error: SettingsError) -> None:
    lang = Lang.of(os.environ)
    sys.stderr.write("".join(f"smsq: {told(line, lang)}\n" for line in error.problems))
    sys.exit(2)


log = logging.getLogger(__name__)

try:
    app = create_app()
except SettingsError as _error:
    _exit_with(_error)


@signals.celeryd_init.connect(weak=False)
def _check_settings(instance: Any = None, options: Any = None, **_: Any) -> None:
    """Refuse to start if it cannot work: before the banner and before any message."""
    if getattr(instance, "app", None) is app:
        pool = (options or {}).get("pool_cls")
        if problems := refused(sys.argv[1:]) or refused_pool(pool):
            _exit_with(SettingsError(problems))
        try:
            # Checked again when the broker is there.
            with suppress(LedgerUnavailable), deadline.within(app.settings.enqueue_timeout_s):
                app.runtime.check()
            if app.settings.traces:
                signals.worker_shutdown.connect(otel.start("worker"), weak=False)
        except SettingsError as error:
            _exit_with(error)
        remote_control.install()
        celery_logs.add_filters()
        celery_logs.ignore_print_errors()
        hangup.install()
        if app.settings.log_format == "json":
            celery_logs.use_json(instance)
        else:
            celery_logs.use_plain_text()


_signals = count()
_abandoning = SimpleQueue[None]()
"""Not empty when the attempts in flight are recorded as in doubt; may be filled at any moment."""
RECORDED_S: Final = 25.0
"""An attempt's result is in the ledger or on the disk by then, so there is nothing to wait for."""
ABANDON_S: Final = 10.0
"""An attempt not recorded by then is left to its lease, and so to the same doubt."""


@signals.worker_shutting_down.connect(weak=False)
def _stop(sig: str = "", how: str = "", **_: Any) -> None:
    """Take nothing new at the first signal; at the second, or a cold one, do not wait either.

    A hangup is none of them: with it the worker was not asked to end for good.

    Celery calls this from a signal handler, which a second signal may interrupt anywhere: so what
    takes a lock or talks to Redis runs in a thread, and signals are counted without a lock. So does
    threading.Thread take one when it starts, which would then be waited for in vain.
    """
    is_patient = sig == hangup.SIGNAL or (next(_signals) == 0 and how != "Cold")
    if not is_patient:
        _abandoning.put(None)
    start_new_thread(_finish if is_patient else _abandon, ())


@atexit.register
def _let_it_abandon() -> None:
    """Wait for the thread that abandons, which ends the process, if Celery ends before it."""
    if not _abandoning.empty():
        time.sleep(2 * ABANDON_S)


def _finish() -> None:
    """Wait for the attempts in flight, up to a limit: a silent Redis would delay them for long."""
    _take_nothing_new()
    end = Timer(app.settings.longest_call_s + RECORDED_S, _abandon)
    end.daemon = True
    end.start()


def _take_nothing_new() -> None:
    app.gate.stop()
    app.runtime.sender.stop()


def _abandon() -> None:
    try:
        _take_nothing_new()
        # If neither Redis nor the disk accepts anything, recording never ends.
        end = Timer(ABANDON_S, os._exit, (1,))
        end.daemon = True
        with suppress(RuntimeError):  # An interpreter that comes to its end begins no thread.
            end.start()
        app.runtime.sender.abandon()
        app.runtime.sender.wait_until_given_back()
    finally:
        # Threads in an attempt cannot be ended in any other way.
        os._exit(1)


@signals.worker_ready.connect(weak=False)
def _unlock(**_: Any) -> None:
    """Migrate the ledger. Nothing has been taken from the queues yet."""
    try:
        app.runtime.unlock()
    except SettingsError as error:
        _exit_with(error)
    except LedgerUnavailable as error:
        log.warning(
            "the ledger's schema and payloads under older SMSQ_PAYLOAD_KEYS stay as they are until "
            "the next start: %s",
            error,
        )


@signals.worker_ready.connect(weak=False)
def _warn(**_: Any) -> None:
    """Warn at every start of what loses messages, weakens security or does not do what it says."""
    try:
        app.runtime.warn_of_servers()
    except LedgerUnavailable as error:
        log.warning("unknown whether Redis evicts or keeps what it holds: %s", error)
    for problem in doubtful(sys.argv[1:]):
        log.warning("%s", problem)
    if ignored := unknown(type(app.settings), os.environ):
        log.warning("no settings of this release, and ignored: %s", ", ".join(ignored))
    if overruled := app.settings.overruled(os.environ):
        log.warning("%s", overruled)
    if not app.settings.verify_tls:
        log.warning(
            "SMSQ_GATEWAY_VERIFY_TLS is 0: anyone on the way to the gateway can read the secret "
            "and every number"
        )
    if not app.settings.payload_keys:
        log.warning(
            "anyone who can read Redis can read the number and code of each message until it is "
            "final; SMSQ_PAYLOAD_KEYS encrypts them"
        )
