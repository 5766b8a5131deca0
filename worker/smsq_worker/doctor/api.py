"""The HTTP API, if it runs on this machine. It may run on another, so its absence is no error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smsq_worker.api.clients import weak
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _
from smsq_worker.infra.ports import is_up, shown

ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here


def check(settings: Settings) -> Iterator[Finding]:
    """Check whether the API is up and ready at its bind address."""
    where, (host, port) = shown(settings.api_bind), settings.api_bind
    url = f"http://{shown((ANYWHERE.get(host, host), port))}"
    if weakness := weak(settings.relay_secret):
        yield error(_("SMSQ_RELAY_SECRET is weak: smsq serve does not start with it"), weakness)
    if not any(one.report_token for one in settings.accounts):
        yield ok(_("SMSQ_REPORT_TOKEN is not set here, so the HTTP API is not checked"))
    elif not is_up(f"{url}/healthz"):
        advice = _("delivery reports need it: smsq serve, here or on another host")
        yield ok(_("no HTTP API answers at {where}", where=where), advice)
    else:
        yield ok(_("the HTTP API answers at {where}", where=where))
        if not is_up(f"{url}/readyz"):
            yield warning(
                _(
                    "the HTTP API at {where} is not ready: it does not reach Redis, or cannot "
                    "write the reports in its spool to it",
                    where=where,
                ),
                _("curl http://{where}/readyz says which; read its log", where=where),
            )
