"""The producer's own Celery app.

It never becomes `celery.current_app`, shares no task with other apps, and takes its broker from
SMSQ_ settings alone, whatever the host's app or CELERY_ variables say.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import cached_property
from threading import RLock
from typing import Any

import kombu.pools
from celery import Celery
from celery.utils.objects import FallbackContext
from kombu import Connection, Queue
from kombu.exceptions import KombuError

from smsq import configuring, deadline
from smsq.async_connection import AsyncClient, AsyncClients
from smsq.connection import Client, connect, keepalive
from smsq.contract import NOTIFY_QUEUE, REPORT_QUEUE, Lane
from smsq.ledger_writer import LedgerWriter
from smsq.redis_urls import as_broker, names_sentinels
from smsq.settings import ProducerSettings

QUEUES = (Lane.OTP.queue, REPORT_QUEUE, NOTIFY_QUEUE, Lane.NOTICE.queue, Lane.BULK.queue)
"""All queues, in their order of service."""


def shared_config(settings: ProducerSettings) -> dict[str, Any]:
    """Return the part of Celery's configuration in which producer and worker must agree."""
    broker = as_broker(settings.broker_url)
    return {
        "broker_url": broker.url,
        "broker_use_ssl": broker.ssl,
        "task_queues": [Queue(name, routing_key=name) for name in QUEUES],
        "task_default_queue": Lane.NOTICE.queue,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "broker_transport_options": {
            # Short, because nothing waits inside Celery: what a dead worker had taken comes
            # back this soon. Longer than any attempt (SMSQ_LEASE_S), so that none runs twice.
            "visibility_timeout": 120,
            # The defaults would look for such messages only once in some 100 s.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "socket_keepalive_options": keepalive(10),
            "idle_s": settings.idle_timeout_s,
            # The connection to a frozen server is closed after twice this.
            "health_check_interval": 5,
            "max_connections": 500,
            **broker.options,
        },
    }


PUBLISH_ERRORS = (KombuError, OSError)
"""What publishing raises where the broker does not take a message."""


def time_of_a_try(settings: ProducerSettings) -> float:
    """Return half of SMSQ_ENQUEUE_TIMEOUT_S, so that there is time for another try.

    It goes over a new connection: a firewall may have forgotten the old one.
    """
    return min(5.0, settings.enqueue_timeout_s / 2)


def connect_in_time(settings: ProducerSettings) -> Client:
    """Return a client of the ledger for whoever has SMSQ_ENQUEUE_TIMEOUT_S for what it does."""
    return connect(
        settings.redis_url,
        idle_s=settings.idle_timeout_s,
        try_s=time_of_a_try(settings),
        encoding_errors="replace",  # Spoilt bytes in one field must not hide the others.
    )


class SmsqApp(Celery):
    """A Celery app that reads its settings when it is first used, not when it is imported."""

    @cached_property
    def settings(self) -> ProducerSettings:
        """The environment's settings. Raises SettingsError."""
        return ProducerSettings.load(os.environ)

    @cached_property
    def client(self) -> Client:
        """The process' client of the ledger."""
        return connect_in_time(self.settings)

    @cached_property
    def _async_clients(self) -> AsyncClients:
        settings = self.settings
        try_s = time_of_a_try(settings)
        return AsyncClients(settings.redis_url, idle_s=settings.idle_timeout_s, try_s=try_s)

    @property
    def async_client(self) -> AsyncClient:
        """The running event loop's client of the ledger."""
        return self._async_clients.of_running_loop()

    @cached_property
    def ledger_writer(self) -> LedgerWriter:
        """What writes new messages to the ledger."""
        return LedgerWriter(self.client, self.settings)

    @property
    def _broker_url(self) -> str:
        return as_broker(self.settings.broker_url).url

    def connection_for_write(self, url: str | None = None, *args: Any, **kwargs: Any) -> Connection:
        """Connect to SMSQ_BROKER_URL; Celery's own method would prefer CELERY_BROKER_URL."""
        return super().connection_for_write(url or self._broker_url, *args, **kwargs)

    def connection_for_read(self, url: str | None = None, **kwargs: Any) -> Connection:
        """Connect to SMSQ_BROKER_URL; Celery's own method would prefer CELERY_BROKER_URL."""
        return super().connection_for_read(url or self._broker_url, **kwargs)

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """Return a producer of the pool; Celery's own method waits for one without end."""
        left_s = deadline.left_s()
        timeout = None if left_s == math.inf else max(0.0, left_s)
        return FallbackContext(producer, self.producer_pool.acquire, block=True, timeout=timeout)


class ProducerApp(SmsqApp):
    """The app of a backend, whose transport keeps deadlines."""

    _after_fork: Any

    @cached_property
    def settings(self) -> ProducerSettings:
        """What the backend configured, and the environment. Raises SettingsError."""
        return configuring.settle()

    @property
    def _broker_url(self) -> str:
        # The first alone: kombu would try the others with its own transport. Ours gets all of
        # them by its option `sentinels_url`.
        return super()._broker_url.partition(";")[0]

    def begin_anew(self) -> None:
        """Leave to the parent of a fork what it uses; its other threads give nothing back here.

        What they had locked would stay locked, and the broker's connections that they had taken
        would be waited for without end.
        """
        for kind in type(self).__mro__:
            for made_once in vars(kind).values():
                # Before Python 3.12 one lock is held while a thread makes it, for ever in a child.
                if isinstance(made_once, cached_property) and "lock" in vars(made_once):
                    vars(made_once)["lock"] = RLock()
        vars(self).pop("ledger_writer", None)
        client = vars(self).pop("client", None)
        if client is not None:
            client.connection_pool.unlock()  # Its end closes it.
        if "amqp" in vars(self):
            self._after_fork()
            broker = self.connection_for_write()
            for group in (kombu.pools.producers, kombu.pools.connections):
                with suppress(KeyError):
                    del group[broker]


def _producer_config() -> dict[str, Any]:
    settings = app.settings
    shared = shared_config(settings)
    own: dict[str, Any] = {
        # An idle connection is replaced, and need not be asked.
        "health_check_interval": 0,
        # The publication's share of the time is enough for two tries.
        "socket_timeout": min(10.0, settings.enqueue_timeout_s / 3),
        "socket_connect_timeout": min(5.0, settings.enqueue_timeout_s / 3),
    }
    kind = "Transport"
    if names_sentinels(settings.broker_url):
        own["sentinels_url"] = settings.broker_url
        kind = "SentinelTransport"
    return shared | {
        "broker_url": app._broker_url,  # noqa: SLF001
        # Not by kombu's alias: the host's own redis:// stays kombu's.
        "broker_transport": f"smsq.transport:{kind}",
        "broker_transport_options": shared["broker_transport_options"] | own,
        # kombu has one pool limit for the process; ours must not resize the host's pools.
        "broker_pool_limit": kombu.pools.get_limit(),
        # One quick second try: the ledger already holds the message.
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.1},
    }


app = ProducerApp("smsq", set_as_current=False, fixups=[])
app.add_defaults(_producer_config)


os.register_at_fork(after_in_child=app.begin_anew)
