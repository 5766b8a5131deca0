"""Serve the API with uvicorn."""

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
from smsq_worker.api.app import create_api
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.clients import Callers
from smsq_worker.api.protocol import BoundedProtocol
from smsq_worker.api.relay import Relay
from smsq_worker.api.routes import Api
from smsq_worker.config.parsers import Network
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.delivery_reports.publish import publish_reports
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
        Spool(settings.home / "spool", "reports", max_bytes=settings.report_spool_bytes),
        publish_reports=partial(publish_reports, celery),
        timeout_s=settings.enqueue_timeout_s,
    )
    authenticator = Authenticator(callers)
    relay = Relay(settings, client, authenticator) if callers else None
    api = Api(settings, ledger, client, inbox, authenticator)
    web = create_api(api, relay)
    stop = Event()
    arguments = (stop, Systemd().beat, api.refusals.write)
    replayer = Thread(target=inbox.run, args=arguments, name="smsq-spool", daemon=True)
    replayer.start()
    try:
        uvicorn.Server(configured(web, settings.trusted_proxies)).run(sockets=[listening])
    finally:  # run() ends with the signal's SystemExit.
        stop.set()
        replayer.join(timeout=10)
        api.refusals.write(ledger)


def configured(
    web: FastAPI,
    trusted_proxies: Sequence[Network],
    *,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    max_connections: int = MAX_CONNECTIONS,
) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        web,
        http=protocol,
        ws="none",
        lifespan="off",
        # By default uvicorn would trust this machine and FORWARDED_ALLOW_IPS.
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=[str(network) for network in trusted_proxies],
        # An access log would hold the report URL, whose token is a secret.
        access_log=False,
        server_header=False,
        headers=HEADERS,
        log_config=None,
        backlog=BACKLOG,
        limit_concurrency=max_connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
    )
