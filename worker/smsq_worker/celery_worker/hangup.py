"""SIGHUP: a worker whose output is no terminal ends as at a first SIGTERM, and starts again.

Celery's own handler starts it by `sys.argv`, which of `python -m celery`, and so of `smsq worker`,
names a file that cannot be run; and it tells nobody that the worker stops. Whoever asks one to end
that is about to start again wants it to end: a session that is over may send both signals at once.
"""

from __future__ import annotations

import atexit
import os
import sys
from itertools import count
from queue import SimpleQueue
from typing import Any, Final

import celery.apps.worker
from celery import platforms, signals
from celery.worker import state

SIGNAL: Final = "SIGHUP"
_hangups: Final = count()
_starts_again: Final = SimpleQueue[None]()
_ends_for_good: Final = SimpleQueue[None]()
"""Not empty when it does; both may be filled at any moment."""


def install() -> None:
    """Install this handler where Celery would install its own."""
    worker: Any = celery.apps.worker
    worker.install_worker_restart_handler = _install


def _install(controller: Any) -> None:
    worker: Any = celery.apps.worker
    stopping: Any = state

    def restart(*_: Any) -> None:
        # A session that ends may send several, and a second signal would not wait.
        if next(_hangups) == 0 and stopping.should_stop is stopping.should_terminate is None:
            _starts_again.put(None)
            worker.safe_say("worker: Warm shutdown, then it starts again", sys.__stdout__)
            told = {"sig": SIGNAL, "how": "Warm", "exitcode": os.EX_OK}
            signals.worker_shutting_down.send(sender=controller.hostname, **told)
            stopping.should_stop = os.EX_OK

    platforms.signals[SIGNAL] = restart


@signals.worker_shutting_down.connect(weak=False)
def _end_for_good(sig: str = "", **_: Any) -> None:
    if sig != SIGNAL:
        _ends_for_good.put(None)


@atexit.register
def _start_again() -> None:
    """Replace the process by another of the same command.

    One that did not wait for its attempts ends without coming here.
    """
    if _ends_for_good.empty() and not _starts_again.empty():
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
