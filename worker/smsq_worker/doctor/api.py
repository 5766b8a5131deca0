"""The door, if it is to run on this machine: a note, for it may well run on another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Final

from smsq_worker.config.parsers import Bind
from smsq_worker.config.settings import Settings
from smsq_worker.doctor.finding import Finding, ok, warning
from smsq_worker.infra.ports import shown

TIMEOUT_S: Final = 2.0
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nobody listens here
HTTP_OK: Final = 200


def examine(settings: Settings) -> Iterator[Finding]:
    """Ask the door of SMSQ_API_BIND whether it is up."""
    where = shown(settings.api_bind)
    if not settings.report_token:
        yield ok("SMSQ_REPORT_TOKEN is not set here, so no door is looked for")
    elif _answers(settings.api_bind, "/healthz"):
        yield ok(f"the door answers at {where}")
        if not _answers(settings.api_bind, "/readyz"):
            yield warning(
                f"the door at {where} is not ready: it does not reach Redis, or the reports in its "
                "spool do not",
                f"curl http://{where}/readyz says which; read its log",
            )
    else:
        yield ok(
            f"no door answers at {where}",
            "delivery reports need one: smsq serve, here or on another host",
        )


def _answers(bind: Bind, path: str) -> bool:
    host, port = bind
    connection = HTTPConnection(ANYWHERE.get(host, host), port, timeout=TIMEOUT_S)
    try:
        with closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read(1000)  # or the door would see a reset
            return answer.status == HTTP_OK
    except (OSError, HTTPException, UnicodeError):
        return False
