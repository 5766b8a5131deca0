"""Respond to a request as its behaviour says: well, badly or not at all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus

from tornado.web import RequestHandler

from smsq_worker.sandbox.behaviour import Behaviour
from smsq_worker.sandbox.sleep import interrupted

_DRIBBLE_PART = 8
# On, with a linger time of 0: close() discards what is unsent and sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to respond to; `gone` is set once its client has closed the connection."""

    handler: RequestHandler
    behaviour: Behaviour
    mid: str
    gone: asyncio.Event
    slow_s: float


async def respond(exchange: Exchange) -> None:
    """Respond, or fail to, in the way that the behaviour names."""
    await _TRANSFERS[exchange.behaviour.transfer](exchange)


async def _at_once(exchange: Exchange) -> None:
    exchange.handler.write(_start(exchange))


async def _slow(exchange: Exchange) -> None:
    if not await interrupted(exchange.gone, exchange.slow_s):
        await _at_once(exchange)


async def _dribble(exchange: Exchange) -> None:
    for byte in _start(exchange):
        if await interrupted(exchange.gone, exchange.slow_s / _DRIBBLE_PART):
            return
        exchange.handler.write(bytes([byte]))
        await exchange.handler.flush()


async def _cut(exchange: Exchange) -> None:
    exchange.handler.write(_half(_start(exchange)))
    await exchange.handler.flush()
    exchange.handler.detach().close()


async def _silent(exchange: Exchange) -> None:
    await interrupted(exchange.gone, None)


async def _reset(exchange: Exchange) -> None:
    stream = exchange.handler.detach()
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    stream.close()


_TRANSFERS = {
    "at once": _at_once,
    "slow": _slow,
    "dribble": _dribble,
    "cut": _cut,
    "silent": _silent,
    "reset": _reset,
}


def _start(exchange: Exchange) -> bytes:
    """Set status and headers; return the body that is to follow them."""
    behaviour, handler = exchange.behaviour, exchange.handler
    body = _body(behaviour, exchange.mid)
    is_html = behaviour.body in {"padded", "page"}
    handler.set_status(behaviour.status)
    handler.set_header(
        "Content-Type", f"{'text/html' if is_html else 'application/json'}; charset=utf-8"
    )
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
