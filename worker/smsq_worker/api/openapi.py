"""What /openapi.json says of requests and answers that are read and written by hand."""

from __future__ import annotations

from typing import Any, Final

from smsq.contract import Lane
from smsq_worker.gateway import relay_request as gateway

JSON: Final = "application/json"
TEXT: Final = {"type": "string"}
ANSWER: Final = {
    "type": "object",
    "required": ["code", "msg"],
    "properties": {"code": {"type": "integer"}, "msg": TEXT},
}
GATEWAY_ANSWER: Final = {
    "type": "object",
    "required": ["code", "msg", "mid"],
    "properties": {
        "code": {"type": "integer", "enum": [200, 400]},
        "msg": TEXT,
        "mid": {"type": "string", "description": "The message's id; empty with code 400."},
    },
}
REPORT: Final = {
    "type": "object",
    "required": ["mid", "stat"],
    "properties": {"mid": TEXT, "stat": TEXT},
}
REPORTS: Final = {"oneOf": [REPORT, {"type": "array", "items": REPORT}]}
RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
}
AUTHORIZATION: Final = {
    "name": "Authorization",
    "in": "header",
    "description": "SMSQ_RELAY_SECRET, or the secret of a caller in SMSQ_RELAY_CALLERS_FILE.",
    "schema": TEXT,
}


def answers(schema: dict[str, Any] = ANSWER, **described: str) -> dict[int | str, dict[str, Any]]:
    """Describe answers: `s404="no such message"`."""
    return {
        int(status[1:]): {
            "description": description,
            "content": {JSON: {"schema": schema}},
            **({"headers": RETRY_AFTER} if status == "s429" else {}),
        }
        for status, description in described.items()
    }


MALFORMED: Final = answers(s400="malformed")
UNREADY: Final = answers(s503="Redis does not answer; of /readyz also: the spool does not move")
MESSAGE_ANSWERS: Final = MALFORMED | answers(
    s401="unknown Authorization",
    s404="no such message, or another caller's",
    s429="too many wrong secrets from this address",
    s503="Redis does not answer",
)
REPORT_ANSWERS: Final = answers(
    s200="the reports are safe",
    s400="malformed; the good ones among them are safe",
    s404="wrong token, or an address that SMSQ_REPORT_ALLOW does not name",
    s408="the body came too slowly",
    s413="the body is too long",
    s415="the body is compressed in another way than gzip or deflate",
    s429="too many wrong tokens from this address",
    s503="neither Redis nor the disk takes it",
)
RELAY_ANSWERS: Final = answers(
    GATEWAY_ANSWER,
    s200="taken, or refused where `code` is 400",
    s408="the body came too slowly",
    s413="the body is too long",
    s415="the body is compressed in another way than gzip or deflate",
    s429="the caller's rate is used up, or there were too many wrong secrets from this address",
    s503="Redis does not answer: try again, with the same key",
) | answers(s400="the request is malformed HTTP")

REPORT_REQUEST: Final = {
    "parameters": [{"name": "token", "in": "path", "required": True, "schema": TEXT}],
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": REPORTS},
            "application/x-www-form-urlencoded": {"schema": REPORT},
        },
    },
}
MESSAGE_REQUEST: Final = {
    "parameters": [
        {"name": "message_id", "in": "path", "required": True, "schema": TEXT},
        AUTHORIZATION,
    ]
}


def _relay_parameter(name: str) -> dict[str, Any]:
    choices: list[str] = [gateway.ROUTE[name]] if name in gateway.ROUTE else []
    if name == "lane":
        choices = [*Lane]
    return TEXT | ({"enum": choices} if choices else {})


_RELAY: Final = {
    name: _relay_parameter(name) for name in (*gateway.ROUTE, *gateway.ARGUMENTS, *gateway.OPTIONAL)
}
_NEEDED: Final = [*gateway.ROUTE, "mobphone", "smstemplate"]


def relay_request(*, post: bool) -> dict[str, Any]:
    """Describe the relay's request; of a POST, any parameter may be in the body instead."""
    described: dict[str, Any] = {
        "parameters": [
            AUTHORIZATION,
            *(
                {
                    "name": name,
                    "in": "query",
                    "schema": schema,
                    "required": name in _NEEDED and not post,
                }
                for name, schema in _RELAY.items()
            ),
        ]
    }
    if post:
        form = {"schema": {"type": "object", "properties": _RELAY}}
        described["requestBody"] = {
            "content": {
                "application/x-www-form-urlencoded": form,
                "multipart/form-data": form,
            }
        }
    return described
