"""The worker's kind of Celery app."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from kombu import Connection

from smsq.app import SmsqApp, shared_config
from smsq_worker.config.settings import Settings
from smsq_worker.infra import logs
from smsq_worker.runtime import MAX_ATTEMPTS, Runtime
from smsq_worker.sending.consumer_gate import ConsumerGate


class WorkerApp(SmsqApp):
    """The app of a worker; its runtime is built when the first task needs it."""

    amqp_cls = "smsq_worker.celery_worker.transport:AMQP"
    events_cls = "smsq_worker.celery_worker.events:Events"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gate = ConsumerGate()
        """Of this process' consumers: the channels of its connections for reading have it."""

    @cached_property
    def settings(self) -> Settings:
        """Read the environment. Raises SettingsError."""
        return Settings.load(os.environ)

    @cached_property
    def runtime(self) -> Runtime:
        """Build what runs in a worker. Raises SettingsError."""
        return Runtime(Settings.load(os.environ, need=("app_secret",)), self.gate)

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Connection:
        """Connect to our broker; the connection's channels consume as the gate allows."""
        return super().connection_for_read(url, transport_options={"gate": self.gate}, **kwargs)


def worker_config(settings: Settings) -> dict[str, Any]:
    """Return a worker's configuration of Celery; docs/internals/decisions.md has the reasons."""
    return shared_config(settings) | {
        "worker_pool": "threads",
        # Attempts at once, and threads for other tasks. A thread costs nothing until it is used.
        "worker_concurrency": MAX_ATTEMPTS,
        # No limit: a lane full of bulk must not keep an otp out. The gate's limits are per lane.
        "worker_prefetch_multiplier": 0,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        # Also for errors of a server that has become a replica, or has too few of them.
        "broker_channel_error_retry": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_log_format": logs.FORMAT,
        "worker_task_log_format": logs.FORMAT,
        "worker_log_color": False,
    }
