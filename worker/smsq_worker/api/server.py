"""Serve the API with uvicorn."""

from __future__ import annotations

import logging
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette

from smsq.app import app as celery
from smsq.app import connect_in_time
from smsq.publishing import publish_reports
from smsq.wakeup import of_reports
from smsq_worker.api.app import create_api
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.clients import Callers
from smsq_worker.api.crowd import Bounds, Crowd
from smsq_worker.api.protocol import BoundedProtocol
from smsq_worker.api.relay import Relay
from smsq_worker.api.routes import Api
from smsq_worker.config.parsers import Network
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.infra.heartbeat import Systemd
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger

log = logging.getLogger(__name__)

OTHER_FILES: Final = 200
"""Open files that are no clients' connections: Redis', the spool's."""
BACKLOG: Final = 1024
HEADERS: Final = [
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
]


def serve(
    settings: Settings,
    callers: Callers,
    listening: socket.socket,
    is_stopping: Callable[[], bool],
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT; requests under way are finished.

    `is_stopping` tells whether one of these has come before.
    """
    # What a producer wrote there must not end the metrics. Nothing is sent from here.
    client = connect_in_time(settings)
    ledger = Ledger(client, settings.rules)
    spool = Spool(settings.home / "spool", "reports", max_bytes=settings.report_spool_bytes)
    inbox = Inbox(
        ledger,
        spool,
        publish_reports=partial(publish_reports, celery),
        wakeup=partial(of_reports, celery) if settings.is_one_redis else None,
        timeout_s=settings.enqueue_timeout_s,
    )
    authenticator = Authenticator(callers)
    relay = Relay(settings, ledger, authenticator) if callers else None
    api = Api(settings, ledger, client, inbox, authenticator)
    web = create_api(api, relay)
    stop = Event()
    arguments = (stop, Systemd().beat, api.refusals.write)
    replayer = Thread(target=inbox.run, args=arguments, name="smsq-spool", daemon=True)
    replayer.start()
    try:
        _server(web, settings.trusted_proxies, is_stopping).run(sockets=[listening])
    finally:
        stop.set()
        replayer.join(timeout=10)
        with suppress(OSError):
            spool.close()
        api.refusals.write(ledger)
        api.close()
        client.close()


def _server(
    web: Starlette, trusted_proxies: Sequence[Network], is_stopping: Callable[[], bool]
) -> uvicorn.Server:
    """Return a server that ends by a signal from now on."""
    bounds = Bounds(connections=connections_that_fit(Bounds().connections))
    server = uvicorn.Server(configured(web, trusted_proxies, bounds=bounds))
    # As uvicorn does a moment later; it raises the signal once more when it has ended by it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    if is_stopping():
        server.should_exit = True
    return server


def connections_that_fit(wanted: int) -> int:
    """Return how many connections there may be; raise the limit of open files where that is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == needed:
        return wanted
    fit = max(soft - OTHER_FILES, soft // 2)
    log.warning("at most %d files may be open: at most %d connections are held", soft, fit)
    return fit


def configured(
    web: Starlette,
    trusted_proxies: Sequence[Network],
    *,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    bounds: Bounds | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    crowd = Crowd(bounds or Bounds(), trusted_proxies)
    http: Any = partial(protocol, web.state.refusals, crowd)
    return uvicorn.Config(
        web,
        http=http,
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
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
    )
