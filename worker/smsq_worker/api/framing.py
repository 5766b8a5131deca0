"""Where a request's body ends: after a length, or after the last of its chunks.

A reader takes what has come and returns the part that is body. `overhead` counts what is not.
"""

from __future__ import annotations

from typing import Final

import httptools

from smsq_worker.api.head import BadRequestError

_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Length:
    """A body whose length was announced."""

    overhead = 0
    is_last = False

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def has_ended(self) -> bool:
        """Whether all of it has come."""
        return self._left == 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what is body, and what follows it."""
        body = data[: self._left]
        self._left -= len(body)
        return body, data[len(body) :]


class Chunks:
    """A body in chunks, decoded by llhttp.

    It does not say where in its input a body ends. So what comes with the end is dropped, and
    `is_last` says that the connection can take no further request: clients do not pipeline behind
    chunks, and HTTP allows to close.
    """

    def __init__(self) -> None:
        self.overhead = 0
        self._parts = _Parts()
        self._parser = httptools.HttpRequestParser(self._parts)
        self._parser.feed_data(_HEAD)

    @property
    def has_ended(self) -> bool:
        """Whether all of it has come."""
        return self._parts.has_ended

    @property
    def is_last(self) -> bool:
        """Whether more came with its end."""
        return self._parts.has_more

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what is body, and that nothing follows it. Raises BadRequestError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._parts.has_ended:
                raise BadRequestError from error
            self._parts.has_more = True
        body, self._parts.body = b"".join(self._parts.body), []
        self.overhead += len(data) - len(body)
        return body, b""


class _Parts:
    """What llhttp calls while it decodes chunks."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.has_ended = self.has_more = False

    def on_message_begin(self) -> None:
        self.has_more = self.has_ended

    def on_body(self, part: bytes) -> None:
        if not self.has_ended:
            self.body.append(part)

    def on_message_complete(self) -> None:
        self.has_ended = True


Body = Length | Chunks


def body_of(length: int | None) -> Body | None:
    """Return the reader of a body; None where there is none."""
    if length == 0:
        return None
    return Chunks() if length is None else Length(length)
