"""The web application of `smsq serve`, put together: routes and answers to errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from smsq.errors import LedgerUnavailable
from smsq_worker.api.operations import routes
from smsq_worker.api.relay import Relay
from smsq_worker.api.report_addresses import Reporter
from smsq_worker.api.room import Room, Share
from smsq_worker.api.routes import Api, ReportRefused, answer, vendors_answer
from smsq_worker.api.throttle import address_of, host_of, is_of_this_machine

log = logging.getLogger(__name__)

SERVERS_FAULT: Final = 500
RELAY_OFF: Final = "the relay is off: set SMSQ_RELAY_SECRET or SMSQ_RELAY_CALLERS_FILE"
"""Strangers learn nothing of it."""


def create_api(api: Api, relay: Relay | None, share: Share | None = None) -> Starlette:
    """Return the web application; without a relay its address is unknown."""
    app = Starlette(
        routes=routes(api, relay),
        middleware=[Middleware(Room, share=share or Share())],
        exception_handlers={
            HTTPException: _on_http_error,
            LedgerUnavailable: _on_redis_away,
            Exception: _on_bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.refusals, app.state.reporter_of = api.refusals, api.reporter_of
    return app


async def _on_http_error(request: Request, error: Any) -> Response:
    if isinstance(error, ReportRefused):
        _note(request, error.status_code, error.refused_as)
        return error.response
    headers, msg = error.headers, str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names the methods of one route, and here several have one path.
        methods = {
            method
            for route in request.app.routes
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
        headers = {"Allow": ", ".join(sorted(methods))}
    if error.status_code == HTTPStatus.NOT_FOUND and request.scope["path"] == "/":
        msg = RELAY_OFF if is_of_this_machine(request) else msg
    return _refusal(request, error.status_code, msg, headers)


async def _on_redis_away(request: Request, _: Any) -> Response:
    return _refusal(request, 503, "Redis does not answer")


async def _on_bug(request: Request, error: Exception) -> Response:
    log.error("the API has a bug: %s", type(error).__name__, exc_info=error)
    return _refusal(request, 500, "internal error")


def _refusal(
    request: Request, status: int, msg: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Note a refused request, and return the answer to it; a vendor has it in its own form."""
    _note(request, status)
    reporter: Reporter | None = request.app.state.reporter_of(request)
    if reporter is None or reporter.in_our_form:
        return answer(status, msg, headers)
    return vendors_answer(
        reporter.vendor, "no_room" if status >= SERVERS_FAULT else "malformed", headers, status
    )


def _note(request: Request, status: int, of: tuple[str, str] | None = None) -> None:
    source = address_of(host_of(request)) or "no address"
    request.app.state.refusals.note(request.scope["path"], status, source, of)
