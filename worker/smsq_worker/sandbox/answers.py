"""Answer a send as its turn says: well, badly or not at all."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from smsq_worker.sandbox.pauses import pause
from smsq_worker.sandbox.turns import Answer, Manner, Shape

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from tornado.web import RequestHandler

_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_CONTENT_TYPES = {Shape.PADDED: _HTML, Shape.PAGE: _HTML}
_DRIBBLE_PART = 8
# On, with a linger time of 0: close() throws away what is unsent and sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call that is to be answered; `gone` is set once its client has closed the connection."""

    handler: RequestHandler
    answer: Answer
    mid: str
    gone: asyncio.Event
    slow_s: float


async def give(exchange: Exchange) -> None:
    """Answer, or fail to, in the manner that the answer names."""
    await _MANNERS[exchange.answer.manner](exchange)


def render(answer: Answer, mid: str) -> tuple[str, bytes]:
    """Return content type and body of an answer."""
    return _CONTENT_TYPES.get(answer.shape, _JSON), _body(answer, mid)


def _body(answer: Answer, mid: str) -> bytes:
    fields: dict[str, object] = {"code": answer.code, "msg": answer.msg, "mid": mid}
    bodies = {
        Shape.DOCUMENTED: _json(fields),
        Shape.WITHOUT_MID: _json({"code": answer.code, "msg": answer.msg}),
        Shape.CODE_AS_TEXT: _json(fields | {"code": str(answer.code)}),
        Shape.PADDED: b"\xef\xbb\xbf\r\n " + _json(fields) + b" \r\n",
        Shape.TRUNCATED: _half(_json(fields)),
        Shape.EMPTY: b"",
        Shape.PAGE: _page(HTTPStatus(answer.status)),
    }
    return bodies[answer.shape]


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _page(status: HTTPStatus) -> bytes:
    title = f"{status.value} {status.phrase}"
    return f"<html><head><title>{title}</title></head><body>{title}</body></html>\n".encode()


def _head(exchange: Exchange) -> bytes:
    """Set status and headers; return the body that is to follow them."""
    content_type, body = render(exchange.answer, exchange.mid)
    handler = exchange.handler
    handler.set_status(exchange.answer.status)
    handler.set_header("Content-Type", content_type)
    handler.set_header("Content-Length", str(len(body)))
    if exchange.answer.retry_after_s is not None:
        handler.set_header("Retry-After", str(exchange.answer.retry_after_s))
    return body


async def _at_once(exchange: Exchange) -> None:
    exchange.handler.write(_head(exchange))


async def _slow(exchange: Exchange) -> None:
    if not await pause(exchange.gone, exchange.slow_s):
        await _at_once(exchange)


async def _dribble(exchange: Exchange) -> None:
    for byte in _head(exchange):
        if await pause(exchange.gone, exchange.slow_s / _DRIBBLE_PART):
            return
        exchange.handler.write(bytes([byte]))
        await exchange.handler.flush()


async def _cut(exchange: Exchange) -> None:
    exchange.handler.write(_half(_head(exchange)))
    await exchange.handler.flush()
    exchange.handler.detach().close()


async def _silent(exchange: Exchange) -> None:
    await pause(exchange.gone, None)


async def _reset(exchange: Exchange) -> None:
    stream = exchange.handler.detach()
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    stream.close()


_MANNERS: dict[Manner, Callable[[Exchange], Awaitable[None]]] = {
    Manner.AT_ONCE: _at_once,
    Manner.SLOW: _slow,
    Manner.DRIBBLE: _dribble,
    Manner.CUT: _cut,
    Manner.SILENT: _silent,
    Manner.RESET: _reset,
}
