"""Serving the door with uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from threading import Event, Thread
from typing import Final

import uvicorn
from fastapi import FastAPI

from smsq.app import app as celery
from smsq.app import connect_in_time
from smsq_worker.api.app import Api, create_api
from smsq_worker.api.auth import Access
from smsq_worker.api.clients import Callers
from smsq_worker.api.protocol import BoundedProtocol
from smsq_worker.api.relay import Relay
from smsq_worker.celery_worker.tasks import publish_reports
from smsq_worker.config.parsers import Network
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.infra.heartbeat import Systemd
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger

MAX_CONNECTIONS: Final = 1000
BACKLOG: Final = 1024
HEADERS: Final = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
]


def serve(settings: Settings, callers: Callers, listening: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT; requests under way are finished."""
    client = connect_in_time(settings)
    ledger = Ledger(client, settings.rules)
    inbox = Inbox(
        ledger,
        Spool(settings.home / "spool", "reports"),
        publish_reports=partial(publish_reports, celery),
        timeout_s=settings.enqueue_timeout_s,
    )
    access = Access(callers)
    relay = Relay(settings, client, access) if callers else None
    door = Api(settings, ledger, client, inbox, access)
    web = create_api(door, relay)
    stop = Event()
    arguments = (stop, Systemd().beat, door.refusals.write)
    replayer = Thread(target=inbox.run, args=arguments, name="smsq-spool", daemon=True)
    replayer.start()
    try:
        uvicorn.Server(configured(web, settings.trusted_proxies)).run(sockets=[listening])
    finally:  # It ends by the signal's SystemExit.
        stop.set()
        replayer.join(timeout=10)
        door.refusals.write(ledger)


def configured(
    web: FastAPI,
    trusted_proxies: Sequence[Network],
    *,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    max_connections: int = MAX_CONNECTIONS,
) -> uvicorn.Config:
    """Give uvicorn's configuration."""
    return uvicorn.Config(
        web,
        http=protocol,
        ws="none",
        lifespan="off",
        # uvicorn itself would believe this machine, and FORWARDED_ALLOW_IPS.
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=[str(network) for network in trusted_proxies],
        # Its lines would hold the report address, whose token is a secret.
        access_log=False,
        server_header=False,
        headers=HEADERS,
        log_config=None,
        backlog=BACKLOG,
        limit_concurrency=max_connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
    )
