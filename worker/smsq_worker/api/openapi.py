"""Describe requests and answers for /openapi.json."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from smsq.cancelling import Cancellation
from smsq.contract import Lane
from smsq.tracking import Attempt, Status
from smsq_worker.vendors.oneoc import relay_request as gateway

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
PLAIN: Final = "text/plain"
TEXT: Final[dict[str, Any]] = {"type": "string"}
_SCALARS: Final[Mapping[type, dict[str, Any]]] = {
    str: TEXT,
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: TEXT | {"format": "date-time"},
    NoneType: {"type": "null"},
}
_MODELS: Final = (Attempt, Status, Cancellation)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """As Starlette reads it."""
    endpoint: Callable[..., Any]
    answers: Mapping[int, dict[str, Any]]
    request: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def shown_path(self) -> str:
        """The path without Starlette's converters."""
        return re.sub(r":\w+}", "}", self.path)

    def described(self) -> dict[str, Any]:
        """Return the description."""
        own, words = self.endpoint.__name__, inspect.getdoc(self.endpoint) or ""
        name = f"{own}{re.sub('[^a-z]', '_', self.shown_path)}_{self.method.lower()}"
        return {
            "summary": own.replace("_", " ").title(),
            "description": words,
            "operationId": self.name or name,
            "responses": {str(status): answer for status, answer in self.answers.items()},
            **self.request,
        }


def document(operations: Iterable[Operation], *, several_accounts: bool) -> dict[str, Any]:
    """Return the OpenAPI document."""
    schemas = {model.__name__: _model(model) for model in _MODELS}
    if several_accounts:
        account = TEXT | {"description": "The name of the account that made it."}
        schemas[Attempt.__name__]["properties"]["account"] = account
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.shown_path, {})[one.method.lower()] = one.described()
    return {
        "openapi": "3.1.0",
        "info": {"title": "smsq", "version": version("smsq")},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _model(model: type) -> dict[str, Any]:
    properties = {name: _type(hint) for name, hint in get_type_hints(model).items()}
    return _object(**properties) | {"description": inspect.getdoc(model)}


def _type(hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if hint in _MODELS:
        return {"$ref": f"#/components/schemas/{hint.__name__}"}
    of = get_args(hint)
    if get_origin(hint) is Literal:
        return TEXT | {"examples": [*of]}  # No enum: a later release may write others.
    if of[-1] is Ellipsis:
        return {"type": "array", "items": _type(of[0])}
    return {"anyOf": [_type(one) for one in of]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


ANSWER: Final = _object(code={"type": "integer"}, msg=TEXT)
GATEWAY_ANSWER: Final = _object(
    code={"type": "integer", "enum": [200, 400]},
    msg=TEXT,
    mid=TEXT | {"description": "The message's id; empty with code 400."},
)
REPORT: Final = _object(mid=TEXT, stat=TEXT)
REPORTS: Final = {"oneOf": [REPORT, {"type": "array", "items": REPORT}]}
RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
}


def _answers(schema: dict[str, Any] = ANSWER, /, **described: str) -> dict[int, dict[str, Any]]:
    """Describe answers: `s404="no such message"`."""
    return {
        int(status[1:]): {
            "description": description,
            "content": {JSON: {"schema": schema}},
            **({"headers": RETRY_AFTER} if status == "s429" else {}),
        }
        for status, description in described.items()
    }


_OF_BODY: Final = {
    "s408": "the body came too slowly",
    "s413": "the body is too long",
    "s415": "the body is compressed in another way than gzip or deflate",
}
UNREADY: Final = _answers(
    s503="Redis does not answer; of /readyz also: it takes no message, or the spool does not move"
)
HEALTH_ANSWERS: Final = _answers(s200="the process is up")
METRICS_ANSWERS: Final = UNREADY | {
    200: {"description": "the metrics", "content": {PLAIN: {"schema": TEXT}}}
}
READY_ANSWERS: Final = UNREADY | _answers(s200="Redis takes messages, and the spool moves")
_STATUS: Final = {"$ref": f"#/components/schemas/{Status.__name__}"}
MESSAGE_ANSWERS: Final = _answers(_STATUS, s200="the message") | _answers(
    s400="malformed",
    s401="unknown Authorization",
    s404="no such message, or another caller's",
    s429="too many wrong secrets from this address",
    s503="Redis does not answer",
)
_CANCELLATION: Final = {"$ref": f"#/components/schemas/{Cancellation.__name__}"}
CANCEL_ANSWERS: Final = MESSAGE_ANSWERS | _answers(
    _CANCELLATION,
    s200="it certainly was not sent, and will not be",
    s202="an attempt is under way, and decides; it is not tried again",
    s409="too late: it is what its state says, and is not sent again",
)
REPORT_ANSWERS: Final = _answers(
    s200="the reports are safe; the answers of vendors but 1oc are their own",
    s400="malformed; the good ones among them are safe",
    s404="wrong token, or an address that SMSQ_REPORT_ALLOW does not name",
    s429="too many wrong tokens from this address",
    s503="neither Redis nor the disk takes it",
    **_OF_BODY,
)
RELAY_ANSWERS: Final = _answers(s400="the request is malformed HTTP") | _answers(
    GATEWAY_ANSWER,
    s200="taken, or refused where `code` is 400",
    s429="the caller's rate is used up, or there were too many wrong secrets from this address",
    s503="Redis does not answer: try again, with the same key",
    **_OF_BODY,
)


def _parameter(name: str, place: str, schema: dict[str, Any] = TEXT, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, **more}


AUTHORIZATION: Final = _parameter(
    "Authorization",
    "header",
    description="SMSQ_RELAY_SECRET, or the secret of a caller in SMSQ_RELAY_CALLERS_FILE.",
)
REPORT_BY_GET: Final = {"parameters": [_parameter("token", "path", required=True)]}
REPORT_REQUEST: Final = REPORT_BY_GET | {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": REPORTS}, FORM: {"schema": REPORT}},
    }
}
MESSAGE_REQUEST: Final = {
    "parameters": [_parameter("message_id", "path", required=True), AUTHORIZATION]
}
_RELAY: Final = {
    **{name: TEXT | {"enum": [value]} for name, value in gateway.ROUTE.items()},
    **dict.fromkeys((*gateway.ARGUMENTS, *gateway.OPTIONAL), TEXT),
    "lane": TEXT | {"enum": [*Lane]},
}
_NEEDED: Final = {*gateway.ROUTE, "mobphone", "smstemplate"}


def relay_request(*, post: bool) -> dict[str, Any]:
    """Describe the relay's request; of a POST, any parameter may be in the body instead."""
    query = [
        _parameter(name, "query", schema, required=name in _NEEDED and not post)
        for name, schema in _RELAY.items()
    ]
    described: dict[str, Any] = {"parameters": [AUTHORIZATION, *query]}
    if post:
        form = {"schema": {"type": "object", "properties": _RELAY}}
        described["requestBody"] = {"content": {FORM: form, "multipart/form-data": form}}
    return described
