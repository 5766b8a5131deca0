"""The HTTP door (`smsq serve`): reports in, status out, health. OpenAPI at /openapi.json.

Reports come unsigned from outside: every byte is hostile, and the address holds the only secret.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from smsq.connection import Client
from smsq.errors import LedgerUnavailable
from smsq.tracking import Status, read_status
from smsq_worker.door import metrics
from smsq_worker.door.body import BODY_TIMEOUT_S, read_body
from smsq_worker.door.inbox import Inbox
from smsq_worker.gateway import report
from smsq_worker.ledger import Ledger
from smsq_worker.overview import Lookout
from smsq_worker.settings import Settings

log = logging.getLogger(__name__)

REPORT_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["mid", "stat"],
                    "properties": {"mid": {"type": "string"}, "stat": {"type": "string"}},
                }
            }
        },
    }
}


class Door:
    """What the routes do."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Client,
        inbox: Inbox,
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._inbox = inbox
        self._lookout = Lookout(client, settings.rules, settings.broker_url)
        self._body_timeout_s = body_timeout_s

    async def take_reports(self, token: str, request: Request) -> Response:
        """Take one report or several; 200 once they are safe in the ledger or on the disk.

        Of a body that is partly malformed the good reports are kept, and the answer is 400.
        """
        if not _same(token, self._settings.report_token):
            raise HTTPException(404, "no such address")
        body = await read_body(request, self._body_timeout_s)
        # In a thread, as a hostile body can take long to read and Redis long to answer.
        bad = await run_in_threadpool(self._keep, request.headers.get("content-type", ""), body)
        if bad:
            raise HTTPException(
                400, 'a report is {"mid": "...", "stat": "..."}, or an array or a form of it'
            )
        return answer(200, "ok")

    def _keep(self, content_type: str, body: bytes) -> int:
        """Keep the good reports of a body; give the number of the others."""
        reports = report.read(content_type, body)
        if reports.good:
            try:
                self._inbox.keep(reports.good)
            except OSError as error:
                log.critical("neither Redis nor the spool takes a report: %s", error)
                raise HTTPException(503, "try again") from None
        return reports.bad

    def message(self, message_id: str, authorization: Annotated[str, Header()] = "") -> Status:
        """Give a message's status."""
        secret = self._settings.relay_secret
        if not secret or not _same(authorization, secret):
            raise HTTPException(401, "Authorization must be the value of SMSQ_RELAY_SECRET")
        try:
            status = read_status(self._client, self._settings.redis_url, message_id)
        except LedgerUnavailable:
            raise HTTPException(503, "try again") from None
        if status is None:
            raise HTTPException(404, "no such message")
        return status

    def metrics(self) -> Response:
        """Give the metrics in Prometheus' text form."""
        try:
            return Response(metrics.render(self._lookout), media_type=metrics.CONTENT_TYPE)
        except LedgerUnavailable:
            raise HTTPException(503, "Redis does not answer") from None

    def ready(self) -> Response:
        """Tell whether Redis is there."""
        try:
            self._ledger.ping()
        except LedgerUnavailable:
            raise HTTPException(503, "Redis does not answer") from None
        return answer(200, "ok")


def create_door(door: Door) -> FastAPI:
    """Put the web application together."""
    app = FastAPI(title="smsq", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.post("/reports/{token}", openapi_extra=REPORT_BODY)(door.take_reports)
    app.get("/messages/{message_id}")(door.message)
    app.get("/healthz")(lambda: answer(200, "ok"))
    app.get("/readyz")(door.ready)
    app.get("/metrics")(door.metrics)
    app.exception_handler(StarletteHTTPException)(_on_http_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(Exception)(_on_bug)
    return app


def answer(code: int, msg: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Answer in the vendor's own form."""
    return JSONResponse({"code": code, "msg": msg}, code, headers)


def _on_http_error(_: Request, error: Any) -> Response:
    return answer(error.status_code, str(error.detail), error.headers)


def _on_invalid(_: Request, __: Any) -> Response:
    return answer(400, "malformed")


def _on_bug(_: Request, error: Exception) -> Response:
    log.error("the door has a bug: %s", type(error).__name__, exc_info=error)
    return answer(500, "internal error")


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())
