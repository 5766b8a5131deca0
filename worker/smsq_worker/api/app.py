"""The web application of `smsq serve`, put together: middleware, routes and error answers."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from smsq_worker.api.refusals import RefusalMiddleware
from smsq_worker.api.relay import Relay
from smsq_worker.api.routes import Api, add_routes, answer

log = logging.getLogger(__name__)


def create_api(api: Api, relay: Relay | None) -> FastAPI:
    """Return the web application; without a relay its address is unknown."""
    app = FastAPI(
        title="smsq",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            HTTPException: _on_http_error,
            RequestValidationError: _on_invalid,
            Exception: _on_bug,
        },
        # Spans would hold URLs, and so the token, numbers and codes.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(RefusalMiddleware, refusals=api.refusals)
    app.state.refusals = api.refusals
    add_routes(app, api, relay)
    return app


async def _on_http_error(request: Request, error: Any) -> Response:
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


async def _on_invalid(_: Request, __: Any) -> Response:
    return answer(400, "malformed")


async def _on_bug(_: Request, error: Exception) -> Response:
    log.error("the API has a bug: %s", type(error).__name__, exc_info=error)
    return answer(500, "internal error")
