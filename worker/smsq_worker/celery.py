"""The worker's Celery app: `celery -A smsq_worker worker` finds it here.

Importing this module reads the environment: it is an entry point, and a mistake in the settings
must end it with one clear message, not with a traceback from within Celery.
"""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import Any

from celery import signals

from smsq.app import SmsqApp, shared_config
from smsq.errors import SettingsError
from smsq_worker import tasks, telemetry
from smsq_worker.clockstep import ClockStep
from smsq_worker.runtime import Runtime
from smsq_worker.settings import Settings


class WorkerApp(SmsqApp):
    """The app of a worker; its runtime is built when the first task needs it."""

    _runtime: tuple[int, Runtime] | None = None

    @cached_property
    def settings(self) -> Settings:
        """Read the environment. Raises SettingsError."""
        return Settings.load(os.environ)

    @property
    def runtime(self) -> Runtime:
        """Give this process' runtime; a pool's child process builds its own."""
        if self._runtime is None or self._runtime[0] != os.getpid():
            settings = Settings.load(os.environ, need=("app_secret",))
            self._runtime = os.getpid(), Runtime.build(settings)
        return self._runtime[1]


def worker_config(settings: Settings) -> dict[str, Any]:
    """Give a worker's configuration of Celery; ARCHITECTURE.md has the reasons."""
    return shared_config(settings) | {
        "worker_pool": "threads",
        "worker_concurrency": 32,
        "worker_prefetch_multiplier": 1,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_log_format": telemetry.FORMAT,
        "worker_task_log_format": telemetry.FORMAT,
        "worker_log_color": False,
    }


def create_app() -> WorkerApp:
    """Put the worker's Celery app together. Raises SettingsError."""
    worker_app = WorkerApp("smsq_worker", set_as_current=False, fixups=[])
    _ = worker_app.settings
    worker_app.add_defaults(lambda: worker_config(worker_app.settings))
    worker_app.steps["worker"].add(ClockStep)
    tasks.register(worker_app)
    return worker_app


def _exit_with(error: SettingsError) -> None:
    sys.stderr.write("".join(f"smsq: {line}\n" for line in error.problems))
    sys.exit(2)


try:
    app = create_app()
except SettingsError as _error:
    _exit_with(_error)


@signals.celeryd_init.connect(weak=False)
def _check_settings(instance: Any = None, **_: Any) -> None:
    """Refuse to start without a secret: before the banner, and before anything is consumed."""
    if getattr(instance, "app", None) is app:
        try:
            _ = app.runtime
        except SettingsError as error:
            _exit_with(error)
        telemetry.hide_bodies()
