"""Which address leads to which endpoint, and how it is described."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smsq_worker.api import openapi
from smsq_worker.api.openapi import Operation
from smsq_worker.api.relay import Relay
from smsq_worker.api.routes import Api, healthy

_REPORTS: Final = "/reports/{token}"
_MESSAGE: Final = "/messages/{message_id:path}"


def routes(api: Api, relay: Relay | None) -> list[Route]:
    """Return all routes; without a relay its address is unknown."""
    take, read, cancel = api.take_reports, api.message, api.cancel
    of_message = openapi.MESSAGE_REQUEST
    operations = [
        Operation("POST", _REPORTS, take, openapi.REPORT_ANSWERS, openapi.REPORT_REQUEST),
        Operation("GET", _MESSAGE, read, openapi.MESSAGE_ANSWERS, of_message),
        Operation("DELETE", _MESSAGE, cancel, openapi.CANCEL_ANSWERS, of_message),
        Operation("GET", "/healthz", healthy, openapi.HEALTH_ANSWERS),
        Operation("GET", "/readyz", api.ready, openapi.READY_ANSWERS),
        Operation("GET", "/metrics", api.metrics, openapi.METRICS_ANSWERS),
    ]
    if api.has_several_accounts:
        by_get = Operation("GET", _REPORTS, take, openapi.REPORT_ANSWERS, openapi.REPORT_BY_GET)
        operations.append(by_get)
    if relay:
        for method in ("GET", "POST"):
            request = openapi.relay_request(post=method == "POST")
            name = f"relay_{method.lower()}"
            operations.append(
                Operation(method, "/", relay.take, openapi.RELAY_ANSWERS, request, name)
            )
    found = [Route(one.path, one.endpoint, methods=[one.method]) for one in operations]
    for route in found:
        # A GET of these changes something, and so would a HEAD.
        if route.path in {_REPORTS, "/"} and route.methods:
            route.methods.discard("HEAD")
    document = openapi.document(operations, several_accounts=api.has_several_accounts)
    described = JSONResponse(document)

    async def description(_: Request) -> Response:
        return described

    return [*found, Route("/openapi.json", description)]
