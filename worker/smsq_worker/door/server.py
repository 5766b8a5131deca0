"""Serving the door with uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from threading import Event, Thread
from typing import Final

import uvicorn
from kombu.exceptions import KombuError, OperationalError

from smsq.app import app as celery
from smsq.connection import connect
from smsq_worker.door import Door, create_door
from smsq_worker.door.inbox import Inbox
from smsq_worker.ledger import Ledger
from smsq_worker.settings import Settings
from smsq_worker.spool import Spool
from smsq_worker.tasks import publish_report

MAX_CONNECTIONS: Final = 1000
BACKLOG: Final = 1024


def serve(environ: Mapping[str, str], listening: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT; requests under way are finished."""
    settings = Settings.load(environ, need=("report_token",))
    client = connect(settings.redis_url)
    ledger = Ledger(client, settings.rules)
    inbox = Inbox(
        ledger,
        Spool(settings.home / "spool", "reports"),
        publish_report=lambda mid, stat: publish_report(celery, mid, stat),
        publish_errors=(OperationalError, KombuError, OSError),
    )
    config = uvicorn.Config(
        create_door(Door(settings, ledger, client, inbox)),
        http="httptools",
        ws="none",
        lifespan="off",
        # Its lines would hold the report address, whose token is a secret.
        access_log=False,
        server_header=False,
        log_config=None,
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
    )
    stop = Event()
    replayer = Thread(target=inbox.run, args=(stop,), name="smsq-spool", daemon=True)
    replayer.start()
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:  # It ends by the signal's SystemExit.
        stop.set()
        replayer.join(timeout=10)
