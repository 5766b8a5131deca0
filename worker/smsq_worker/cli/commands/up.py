"""`smsq up`: everything on this machine until Ctrl-C."""

from __future__ import annotations

import os
import time

import click

from smsq_worker.cli.helpers.options import command
from smsq_worker.cli.helpers.output import echo
from smsq_worker.i18n import N_, _


@command(
    "smsq up",
    "smsq up --redis-port 0",
    "SMSQ_REDIS_URL=redis://127.0.0.1:6379/3 smsq up",
)
@click.option(
    "--redis-port",
    type=click.IntRange(0, 65_535),
    default=6379,
    show_default=True,
    help="Where the embedded Valkey listens, 0 for any free port; unused with SMSQ_REDIS_URL.",
)
def up(redis_port: int) -> None:
    """Run Redis, gateway, HTTP API, worker and Flower on this machine until Ctrl-C.

    Nothing else needs to be installed: Redis is an embedded Valkey unless SMSQ_REDIS_URL is
    set, the gateway is the sandbox unless SMSQ_GATEWAY_URL is set. Data and logs are kept under
    SMSQ_HOME. A port of 0 in a SMSQ_..._BIND takes a free one. Ctrl-C exits with 0.
    """
    from smsq_worker.cli.helpers.layout import padded
    from smsq_worker.devstack.processes import POLL_S, Stack, stopping
    from smsq_worker.devstack.up import addresses, make_folders, make_plan, start

    plan = make_plan(os.environ, redis_port=redis_port)
    home = plan.settings.home
    make_folders(home, "logs", *(["redis"] if plan.redis_port is not None else []))
    try:
        with stopping(Stack(home / "logs")) as stack:
            start(plan, stack, home)
            for name, address in (*addresses(plan), (N_("Logs"), home / "logs")):
                echo(f"{padded(_(name), 8)} {address}")
            echo(_("Ready. Ctrl-C ends it."))
            while True:
                stack.check()
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        echo(_("Stopped."))
