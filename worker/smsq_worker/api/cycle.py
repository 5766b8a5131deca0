"""One request and its answer: uvicorn's, with our bounds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from smsq_worker.api.body import BROKEN


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    status = 0

    async def receive(self) -> Any:
        """Return what has come of the body; that the client has gone where that is malformed."""
        message = await super().receive()
        return {"type": "http.disconnect"} if BROKEN in self.scope else message

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        # What is left of the body would have to be read first.
        self.keep_alive &= not self.more_body
        self.status = message.get("status", self.status)
        await super().send(message)


def refusal(status: int, msg: str, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the answer to what is no request; the connection closes after it."""
    body = json.dumps({"code": status, "msg": msg}).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINE[status] + lines + b"\r\n" + body
