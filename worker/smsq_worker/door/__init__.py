"""The HTTP door (`smsq serve`): reports in, status out, health. OpenAPI at /openapi.json.

Reports come unsigned from outside: every byte is hostile, and the address holds the only secret.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from smsq.connection import Client
from smsq.errors import LedgerUnavailable
from smsq.tracking import Status, read_status
from smsq_worker.door.body import BODY_TIMEOUT_S, read_body
from smsq_worker.gateway import report
from smsq_worker.ledger import Ledger
from smsq_worker.settings import Settings

log = logging.getLogger(__name__)

WAKE_AFTER_S: Final = 30
"""When a worker's clock wakes up a report whose own wake-up was lost."""

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
        publish_report: Callable[[str, str], None],
        publish_errors: tuple[type[BaseException], ...],
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._publish_report = publish_report
        self._publish_errors = publish_errors
        self._body_timeout_s = body_timeout_s

    async def take_reports(self, token: str, request: Request) -> Response:
        """Take one report or several; 200 once they are safe in the ledger.

        Of a body that is partly malformed the good reports are kept, and the answer is 400.
        """
        if not _same(token, self._settings.report_token):
            raise HTTPException(404, "no such address")
        body = await read_body(request, self._body_timeout_s)
        reports = report.read(request.headers.get("content-type", ""), body)
        if reports.good:
            await run_in_threadpool(self._keep, reports.good)
        if reports.bad:
            raise HTTPException(
                400, 'a report is {"mid": "...", "stat": "..."}, or an array or a form of it'
            )
        return answer(200, "ok")

    def _keep(self, reports: tuple[tuple[str, str], ...]) -> None:
        try:
            self._ledger.take_in(reports, wake_after_s=WAKE_AFTER_S)
        except LedgerUnavailable as error:
            log.warning("a report could not be kept: %s", error)
            raise HTTPException(503, "try again") from None
        try:
            for mid, stat in reports:
                self._publish_report(mid, stat)
        except self._publish_errors as error:
            log.warning("a report is safe, but its wake-up was not published: %s", error)

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
