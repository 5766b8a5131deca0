"""The HTTP API, if it runs on this machine. It may run on another, so its absence is no error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Final

from smsq_worker.api.clients import weak
from smsq_worker.config.parsers import Bind
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, error, ok, warning
from smsq_worker.i18n import _
from smsq_worker.infra.ports import shown

TIMEOUT_S: Final = 2.0
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens here
HTTP_OK: Final = 200


def check(settings: Settings) -> Iterator[Finding]:
    """Check whether the API is up and ready at its bind address."""
    where = shown(settings.api_bind)
    if weakness := weak(settings.relay_secret):
        yield error(_("SMSQ_RELAY_SECRET is weak: smsq serve does not start with it"), weakness)
    if not any(one.report_token for one in settings.accounts):
        yield ok(_("SMSQ_REPORT_TOKEN is not set here, so the HTTP API is not checked"))
    elif not _answers(settings.api_bind, "/healthz"):
        advice = _("delivery reports need it: smsq serve, here or on another host")
        yield ok(_("no HTTP API answers at {where}", where=where), advice)
    else:
        yield ok(_("the HTTP API answers at {where}", where=where))
        if not _answers(settings.api_bind, "/readyz"):
            yield warning(
                _(
                    "the HTTP API at {where} is not ready: it does not reach Redis, or cannot "
                    "write the reports in its spool to it",
                    where=where,
                ),
                _("curl http://{where}/readyz says which; read its log", where=where),
            )


def _answers(bind: Bind, path: str) -> bool:
    host, port = bind
    connection = HTTPConnection(ANYWHERE.get(host, host), port, timeout=TIMEOUT_S)
    try:
        with closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            response.read(1000)  # or the API would see a reset
            return response.status == HTTP_OK
    except (OSError, HTTPException, UnicodeError):
        return False
