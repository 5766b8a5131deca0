"""Respond to a request as its behaviour says: well, badly or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from http import HTTPStatus

from tornado.web import RequestHandler

from smsq_worker.sandbox.behaviour import Behaviour
from smsq_worker.sandbox.sleep import interrupted

_DRIBBLE_PART = 8
# On, with a linger time of 0: close() discards what is unsent and sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def respond(
    handler: RequestHandler, behaviour: Behaviour, mid: str, gone: asyncio.Event, slow_s: float
) -> None:
    """Respond, or fail to, in the way that the behaviour names.

    `gone` is set once the client has closed the connection.
    """
    transfer = behaviour.transfer
    if transfer == "silent":
        await interrupted(gone, None)
    elif transfer == "reset":
        stream = handler.detach()
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        stream.close()
    elif transfer == "cut":
        handler.write(_half(_start(handler, behaviour, mid)))
        await handler.flush()
        handler.detach().close()
    elif transfer == "dribble":
        for byte in _start(handler, behaviour, mid):
            if await interrupted(gone, slow_s / _DRIBBLE_PART):
                return
            handler.write(bytes([byte]))
            await handler.flush()
    elif transfer == "at once" or not await interrupted(gone, slow_s):
        handler.write(_start(handler, behaviour, mid))


def _start(handler: RequestHandler, behaviour: Behaviour, mid: str) -> bytes:
    """Set status and headers; return the body that is to follow them."""
    body = _body(behaviour, mid)
    kind = "text/html" if behaviour.body in {"padded", "page"} else "application/json"
    handler.set_status(behaviour.status)
    handler.set_header("Content-Type", f"{kind}; charset=utf-8")
    handler.set_header("Content-Length", str(len(body)))
    if behaviour.retry_after_s is not None:
        handler.set_header("Retry-After", str(behaviour.retry_after_s))
    return body


def _body(behaviour: Behaviour, mid: str) -> bytes:
    fields: dict[str, object] = {"code": behaviour.code, "msg": behaviour.msg, "mid": mid}
    return {
        "documented": _json(fields),
        "no mid": _json({"code": behaviour.code, "msg": behaviour.msg}),
        "code as text": _json(fields | {"code": str(behaviour.code)}),
        "padded": b"\xef\xbb\xbf\r\n " + _json(fields) + b" \r\n",
        "truncated": _half(_json(fields)),
        "empty": b"",
        "page": _page(HTTPStatus(behaviour.status)),
    }[behaviour.body]


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _page(status: HTTPStatus) -> bytes:
    title = f"{status.value} {status.phrase}"
    return f"<html><head><title>{title}</title></head><body>{title}</body></html>\n".encode()
