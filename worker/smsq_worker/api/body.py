"""Read a request's body within bounds of size and time, and inflate it where it is compressed."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MAX_BODY: Final = 65_536
BODY_TIMEOUT_S: Final = 10.0
BROKEN: Final = "smsq.broken"
"""Where a scope has the status and the words for a body that is malformed."""
BROKEN_OFF: Final = (400, "the body broke off")
GZIP: Final = 16 + zlib.MAX_WBITS
GZIP_MAGIC: Final = b"\x1f\x8b"
NOT_UNDERSTOOD: Final = frozenset({"br", "zstd", "compress", "x-compress"})


async def read_body(request: Request, timeout_s: float) -> bytes:
    """Read the complete body, inflated.

    Raises HTTPException: 413 when it is too long, compressed or inflated; 408 when it comes too
    slowly; 415 when its encoding is neither gzip nor deflate; 400 when it breaks off.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY:
        raise HTTPException(413, f"more than {MAX_BODY} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"more than {MAX_BODY} bytes")
    except TimeoutError:
        # Otherwise the connection would stay open as long as a byte comes now and then.
        close = {"Connection": "close"}
        raise HTTPException(408, "the body came too slowly", close) from None
    except ClientDisconnect:
        raise HTTPException(*request.scope.get(BROKEN, BROKEN_OFF)) from None
    return _inflated(request.headers.get("content-encoding", ""), bytes(body))


def _inflated(encoding: str, body: bytes) -> bytes:
    codings = {word.strip().lower() for word in encoding.split(",")}
    # Clients also put other things there, such as a charset: they are ignored.
    if unknown := codings & NOT_UNDERSTOOD:
        accepted = {"Accept-Encoding": "gzip, deflate"}
        raise HTTPException(415, f"content-encoding {unknown.pop()} is not understood", accepted)
    try:
        # By its first bytes: a proxy may have inflated the body and left the header, or vice versa.
        if body.startswith(GZIP_MAGIC):
            return _gunzipped(body)
        if "deflate" in codings and not body.lstrip().startswith((b"{", b"[")):
            return _deflated(body)
    except zlib.error:
        raise HTTPException(400, "the body cannot be inflated") from None
    return body


def _gunzipped(body: bytes) -> bytes:
    text = b""
    while body.startswith(GZIP_MAGIC):  # a body may have several members
        more, body = _bounded(zlib.decompressobj(GZIP), body, MAX_BODY - len(text))
        text += more
    return text


def _deflated(body: bytes) -> bytes:
    try:
        return _bounded(zlib.decompressobj(), body, MAX_BODY)[0]
    except zlib.error:  # many clients leave out zlib's header and trailer
        return _bounded(zlib.decompressobj(-zlib.MAX_WBITS), body, MAX_BODY)[0]


def _bounded(inflater: zlib._Decompress, body: bytes, at_most: int) -> tuple[bytes, bytes]:
    """Return what a body inflates to, and what follows it; never inflate beyond `at_most` bytes."""
    text = inflater.decompress(body, at_most + 1)
    if len(text) > at_most:
        raise HTTPException(413, f"more than {MAX_BODY} bytes when inflated")
    if not inflater.eof:
        raise zlib.error
    return text, inflater.unused_data
