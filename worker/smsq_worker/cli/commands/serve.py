"""`smsq serve`: the HTTP API."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from threading import Event

from smsq_worker.cli.helpers.options import command

log = logging.getLogger(__name__)


@command(
    "SMSQ_REPORT_TOKEN=$(openssl rand -hex 24) smsq serve",
    "SMSQ_API_BIND=0.0.0.0:8080 smsq serve",
    "curl http://127.0.0.1:8080/readyz",
)
def serve() -> None:
    """Serve the HTTP API on SMSQ_API_BIND: reports and relayed messages in, status out.

    The gateway's returnurl must be http://THIS-HOST/reports/SMSQ_REPORT_TOKEN, with the
    report_token of the account where SMSQ_ACCOUNTS_FILE names several.
    """
    from smsq.errors import LedgerUnavailable
    from smsq_worker.api.clients import Callers
    from smsq_worker.api.report_addresses import ReportAddresses
    from smsq_worker.api.server import serve as serve_api
    from smsq_worker.cli.helpers.ledger_client import connect_ledger_to_write
    from smsq_worker.config.settings import Settings
    from smsq_worker.infra import logs, otel, redis_fitness
    from smsq_worker.infra.ports import listen, shown
    from smsq_worker.ledger import accounts

    stopping = Event()

    def stop(*_: object) -> None:
        # Python ignores what is raised in a weak reference's callback, so the server asks again.
        stopping.set()
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    settings = Settings.load(os.environ, need=("report_token",))
    callers = Callers.load(settings.relay_callers, settings.relay_secret)
    ReportAddresses.of(settings)  # Raises SettingsError.
    # From here on a service speaks, as logs do.
    logs.to_stderr(settings.log_format)
    if overruled := settings.overruled(os.environ):
        log.warning("%s", overruled)
    with ExitStack() as at_the_end:
        if settings.traces:
            at_the_end.callback(otel.start("door"))
        listening = at_the_end.enter_context(listen(settings.api_bind, "SMSQ_API_BIND"))
        # Where it is away, reports go to the spool.
        with suppress(LedgerUnavailable), connect_ledger_to_write(settings) as client:
            redis_fitness.check(client, settings.redis_url, allow_eviction=settings.allow_eviction)
            accounts.check(client, settings.rules)
        address = shown(listening.getsockname()[:2])
        logs.announce(log, settings.log_format, f"API ready: http://{address}/")
        serve_api(settings, callers, listening, stopping.is_set)
