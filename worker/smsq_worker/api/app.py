"""The HTTP door (`smsq serve`): reports and relayed messages in, status out, health.

Described at /openapi.json. Reports come unsigned from outside: every byte is hostile, and the
address holds the only secret.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from smsq import deadline
from smsq.connection import Client
from smsq.errors import LedgerUnavailable
from smsq.tracking import Status, read_status
from smsq_worker.api import metrics, openapi
from smsq_worker.api.auth import Access
from smsq_worker.api.body import BODY_TIMEOUT_S, read_body
from smsq_worker.api.clients import Caller
from smsq_worker.api.refusals import Refusals, Watched
from smsq_worker.api.relay import Relay
from smsq_worker.api.throttle import Sources, address
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.coalescer import WriteCoalescer
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.gateway import delivery_report
from smsq_worker.inspection.snapshot import Inspector
from smsq_worker.ledger import Ledger
from smsq_worker.ledger.states import caller_of

log = logging.getLogger(__name__)

T = TypeVar("T")

KEEP_S: Final = 30.0
"""So long a report may wait until it is safe: Redis is tried for some 20 s."""
STUCK_S: Final = 60.0
"""So long the spool may stay as it is while Redis answers."""
THREADS: Final = 20
"""So many requests may ask Redis at a time; the others wait, each for its own time at the most."""
SOON_READ: Final = 4096
"""A body of at most so many bytes is read on the spot: it takes 5 ms at the very worst."""


class Api:
    """What the routes do."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        client: Client,
        inbox: Inbox,
        access: Access,
        *,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._client = client
        self._inbox = inbox
        self._keeper = WriteCoalescer(inbox.keep, within_s=KEEP_S)
        self._access = access
        self._sources = Sources("token")
        self.refusals = Refusals(settings.report_token)
        self._lookout = Inspector(client, settings.rules, settings.broker_url)
        self._body_timeout_s = body_timeout_s
        # Its own, so that a Redis that is silent takes no thread from a report.
        self._threads = CapacityLimiter(THREADS)

    async def _ask(self, act: Callable[..., T], *args: Any) -> T:
        """Do in a thread what asks Redis. Its time counts from now, the wait for a thread too."""
        with deadline.within(self._settings.enqueue_timeout_s):
            return await to_thread.run_sync(act, *args, limiter=self._threads)

    async def take_reports(self, request: Request) -> Response:
        """Take one report or several; 200 once they are safe in the ledger or on the disk.

        Of a body that is partly malformed the good reports are kept, and the answer is 400.
        """
        self._require_reporter(request)
        body = await read_body(request, self._body_timeout_s)
        held = request.headers.get("content-type", ""), body, request.scope["query_string"]
        if len(body) <= SOON_READ:
            reports = delivery_report.read(*held)
        else:
            reports = await run_in_threadpool(delivery_report.read, *held)
        if reports.good:
            try:
                await self._keeper.do(reports.good)
            except OSError as error:  # TimeoutError is one, of a disk that hangs
                log.critical("neither Redis nor the spool takes a report: %s", error)
                raise HTTPException(503, "try again") from None
        if reports.bad:
            raise HTTPException(
                400, 'a report is {"mid": "...", "stat": "..."}, or an array or a form of it'
            )
        return answer(200, "ok")

    def _require_reporter(self, request: Request) -> None:
        """Let the gateway in: the right token passes, whatever comes from its address besides."""
        token = _same(request.path_params["token"], self._settings.report_token)
        if not (token and self._may_report(request)):
            self._sources.wrong(request)
            raise HTTPException(404, "no such address")

    def _may_report(self, request: Request) -> bool:
        allowed = self._settings.report_allow
        found = address(request)
        return not allowed or (found is not None and any(found in network for network in allowed))

    async def message(self, request: Request) -> Status:
        """Give a message's status. A caller sees its own messages alone."""
        caller = self._access.caller(request)
        try:
            status = await self._ask(self._message, caller, request.path_params["message_id"])
        except LedgerUnavailable:
            raise HTTPException(503, "try again") from None
        if status is None:
            raise HTTPException(404, "no such message")
        return status

    def _message(self, caller: Caller, message_id: str) -> Status | None:
        status = read_status(self._client, self._settings.redis_url, message_id)
        return status if status and self._may_see(caller, message_id) else None

    def _may_see(self, caller: Caller, message_id: str) -> bool:
        if not caller.name:
            return True
        return caller_of(self._client, self._settings.redis_url, message_id) == caller.name

    async def metrics(self) -> Response:
        """Give the metrics in Prometheus' text form."""
        try:
            text = await self._ask(metrics.render, self._lookout)
        except LedgerUnavailable:
            raise HTTPException(503, "Redis does not answer") from None
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def ready(self) -> Response:
        """Tell whether Redis is there with room, and reports on the disk are brought to it."""
        try:
            is_full = await self._ask(self._ledger.is_full)
        except LedgerUnavailable:
            raise HTTPException(503, "Redis does not answer") from None
        if is_full:
            raise HTTPException(503, "Redis is full: it takes no message and no report")
        if self._inbox.stuck_s() > STUCK_S:
            raise HTTPException(503, "reports in the spool do not come into Redis")
        return answer(200, "ok")


def create_api(door: Api, relay: Relay | None) -> FastAPI:
    """Put the web application together; without a relay its address is unknown."""
    app = FastAPI(
        title="smsq",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Its spans have URLs, and so the token, numbers and codes.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(Watched, refusals=door.refusals)
    app.state.refusals = door.refusals
    app.post(
        "/reports/{token}",
        response_class=Response,
        responses=openapi.REPORT_ANSWERS,
        openapi_extra=openapi.REPORT_REQUEST,
    )(door.take_reports)
    if relay:
        for method in ("GET", "POST"):
            app.api_route(
                "/",
                methods=[method],
                operation_id=f"relay_{method.lower()}",
                responses=openapi.RELAY_ANSWERS,
                openapi_extra=openapi.relay_request(post=method == "POST"),
            )(relay.take)
    app.get(
        "/messages/{message_id:path}",
        responses=openapi.MESSAGE_ANSWERS,
        openapi_extra=openapi.MESSAGE_REQUEST,
    )(door.message)
    app.get("/healthz", responses=openapi.answers(s200="the process is up"))(healthy)
    app.get(
        "/readyz",
        responses=openapi.answers(s200="Redis is there with room, and the spool moves")
        | openapi.UNREADY,
    )(door.ready)
    app.get("/metrics", response_class=PlainTextResponse, responses=openapi.UNREADY)(door.metrics)
    for path, endpoint in (
        ("/healthz", healthy),
        ("/readyz", door.ready),
        ("/metrics", door.metrics),
        ("/messages/{message_id:path}", door.message),
    ):
        app.head(path, include_in_schema=False)(endpoint)
    app.exception_handler(StarletteHTTPException)(_on_http_error)
    app.exception_handler(RequestValidationError)(_on_invalid)
    app.exception_handler(Exception)(_on_bug)
    return app


async def healthy() -> Response:
    """Tell that the process is up."""
    return answer(200, "ok")


def answer(code: int, msg: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Answer in the vendor's own form."""
    return JSONResponse({"code": code, "msg": msg}, code, headers)


def _on_http_error(request: Request, error: Any) -> Response:
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of one route, and here several have one path.
        methods = {
            method
            for route in request.app.routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods
        }
        headers = {"Allow": ", ".join(sorted(methods))}
    return answer(error.status_code, str(error.detail), headers)


def _on_invalid(_: Request, __: Any) -> Response:
    return answer(400, "malformed")


def _on_bug(_: Request, error: Exception) -> Response:
    log.error("the door has a bug: %s", type(error).__name__, exc_info=error)
    return answer(500, "internal error")


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())
