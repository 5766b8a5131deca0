"""`smsq up`: everything on this machine until Ctrl-C."""

from __future__ import annotations

import os
import time

import click

from smsq_worker.config.parsers import MAX_PORT
from smsq_worker.devstack.processes import POLL_S, Stack, stopping
from smsq_worker.devstack.up import (
    REDIS_OPTION,
    REDIS_PORT,
    addresses,
    make_folders,
    make_plan,
    start,
)

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq up
  smsq up --redis-port 0
  SMSQ_REDIS_URL=redis://127.0.0.1:6379/3 smsq up
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    REDIS_OPTION,
    type=click.IntRange(0, MAX_PORT),
    default=REDIS_PORT,
    show_default=True,
    help="Where the embedded Valkey listens, 0 for any free port; unused with SMSQ_REDIS_URL.",
)
def up(redis_port: int) -> None:
    """Run Redis, gateway, door, worker and Flower on this machine until Ctrl-C.

    Nothing needs to be installed before: Redis is an embedded Valkey unless SMSQ_REDIS_URL is
    set, the gateway is the sandbox unless SMSQ_GATEWAY_URL is set. Data and logs are kept under
    SMSQ_HOME. A port of 0 in a SMSQ_..._BIND takes a free one. Ctrl-C exits with 0.
    """
    plan = make_plan(os.environ, redis_port=redis_port)
    home = plan.settings.home
    make_folders(home, "logs", *(["redis"] if plan.redis_port is not None else []))
    try:
        with stopping(Stack(home / "logs")) as stack:
            start(plan, stack, home)
            for name, address in addresses(plan):
                click.echo(f"{name:8} {address}")
            click.echo(f"Logs     {home / 'logs'}\nReady. Ctrl-C ends it.")
            while True:
                stack.check()
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        click.echo("Stopped.")
