"""Reading a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

MAX_BODY: Final = 65_536
BODY_TIMEOUT_S: Final = 10.0


async def read_body(request: Request, timeout_s: float) -> bytes:
    """Read the whole body. Raises 413 when it is too long, 408 when it comes too slowly."""
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
        # Or the connection would stay open for as long as a byte comes now and then.
        close = {"Connection": "close"}
        raise HTTPException(408, "the body came too slowly", close) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body broke off") from None
    return bytes(body)
