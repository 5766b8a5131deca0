"""`smsq serve`: the HTTP door."""

from __future__ import annotations

import logging
import os
import signal
import sys

import click

from smsq_worker.door.callers import Callers
from smsq_worker.door.server import serve as serve_door
from smsq_worker.local.ports import listen, shown
from smsq_worker.settings import Settings
from smsq_worker.telemetry import FORMAT


@click.command()
def serve() -> None:
    """Serve the HTTP door on SMSQ_DOOR_BIND: reports and relayed messages in, status out.

    Give the gateway http://THIS-HOST/reports/SMSQ_REPORT_TOKEN as its returnurl.
    """
    # uvicorn raises the signal that ended it once more; to be asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    settings = Settings.load(os.environ, need=("report_token",))
    callers = Callers.load(settings.relay_callers, settings.relay_secret)
    with listen(settings.door_bind, "SMSQ_DOOR_BIND") as listening:
        click.echo(f"Door ready: http://{shown(listening.getsockname()[:2])}/")
        serve_door(settings, callers, listening)
