"""The head of one request, parsed whole and alone.

llhttp judges what is HTTP. It is given exactly one head, so it can neither read on into the body,
which it would drop where a request offers an upgrade, as Java's HttpClient does, nor into the next
request. It refuses a Chinese template that is not percent-encoded, as in the gateway's own samples,
so that is encoded first.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import httptools

MAX_HEAD: Final = 16_384
"""Bytes of a request that are not its body: first line, headers, chunks' framing, trailers."""
MAX_DIGITS: Final = 20
"""Of a length. llhttp bounds the number and not the zeros before it; int() refuses thousands."""
BLANKS: Final = b" \t"
END: Final = re.compile(rb"\r?\n\r?\n")
_BEGINNING: Final = re.compile(rb"[A-Z]")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")

Headers = list[tuple[bytes, bytes]]


class BadRequestError(ValueError):
    """What came is not HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body."""

    method: str
    path: bytes
    query: bytes
    version: str
    headers: Headers
    """With names in lower case."""
    keeps_alive: bool
    length: int | None
    """Bytes of the body; None for a body in chunks."""

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends the body only when it is asked to."""
        return self.version == "1.1" and b"100-continue" in _tokens(self.headers, b"expect")


class _Parts:
    """What llhttp calls while it parses a head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self.is_complete = False

    def on_url(self, part: bytes) -> None:
        self.url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(BLANKS)))  # llhttp strips in front only

    def on_headers_complete(self) -> None:
        self.is_complete = True


def read_head(data: bytes) -> Head:
    """Read a head that ends with its empty line. Raises BadRequestError."""
    parts = _Parts()
    parser = httptools.HttpRequestParser(parts)
    try:
        with suppress(httptools.HttpParserUpgrade):  # HTTP allows to ignore an offer.
            parser.feed_data(_encoded(data))
        url = httptools.parse_url(parts.url)
    except httptools.HttpParserError as error:
        raise BadRequestError from error
    # A number sign would silently cut off what follows it.
    if not parts.is_complete or url.path is None or b"#" in parts.url:
        raise BadRequestError
    version = parser.get_http_version()
    return Head(
        parser.get_method().decode("ascii"),
        url.path,
        url.query or b"",
        version,
        parts.headers,
        version == "1.1" and b"close" not in _tokens(parts.headers, b"connection"),
        _length(parts.headers),
    )


def may_begin(data: bytes | bytearray) -> bool:
    """Return whether a head may begin like this: TLS, for one, does not."""
    return _BEGINNING.match(data) is not None


def path_in(data: bytes | bytearray) -> str:
    """Return the path of a head that has come in part, or is malformed."""
    target = bytes(data).partition(b"\n")[0].split(b" ")[1:2]
    return unquote(b"".join(target).partition(b"?")[0].decode("latin-1"))


def _encoded(head: bytes) -> bytes:
    """Percent-encode what is not ASCII in the first line."""
    line, end, rest = head.partition(b"\n")
    return _NOT_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), line) + end + rest


def _tokens(headers: Headers, wanted: bytes) -> list[bytes]:
    values = b",".join(value for name, value in headers if name == wanted)
    return [token.strip().lower() for token in values.split(b",")]


def _length(headers: Headers) -> int | None:
    """Return the length of the body; llhttp has refused what contradicts itself."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = _tokens(headers, b"transfer-encoding")
    if codings != [b""]:
        if lengths or codings[-1] != b"chunked":
            raise BadRequestError
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_DIGITS:
        raise BadRequestError
    return int(lengths[0])
