"""Reading an HTTP answer off a socket: httptools reads good ones, http.client all others.

An answer that is odd but says something must not become doubt. So what httptools refuses, and what
it does not do (contents that are encoded, bodies that end with their connection, bounds), is read
once more from its beginning by http.client and urllib3, which are slow and take what can be taken.
It has one deadline, for head and body together.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http import client
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPHeaderDict, HTTPResponse

from smsq_worker.infra.http import name_of

CHUNK: Final = 8192
MAX_ANSWER: Final = 65_536
"""Of a body; a longer one is not read to its end, and its connection is closed."""
MAX_HEADERS: Final = 100
"""As in http.client."""


class _Unusual(Exception):  # noqa: N818
    """The answer is for http.client."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body has been read, and may be incomplete."""

    status_code: int
    headers: CaseInsensitiveDict[str]
    content: bytes
    trouble: str = ""
    """What went wrong while the body was read; `content` is what had come by then."""
    keeps: bool = field(kw_only=True)
    """Its connection can take another request."""


class _Answer:
    """An answer: the callbacks of httptools fill it."""

    __slots__ = ("_is_headed", "_pairs", "body", "is_whole", "keeps", "parser", "status")

    def __init__(self) -> None:
        self.parser: Any = None
        self.status = 0
        self.body = b""
        self.is_whole = False
        self.keeps = False
        self._is_headed = False
        self._pairs: list[tuple[bytes, bytes]] = []

    def response(self) -> Response:
        """Return the response, with the headers of one name joined."""
        joined: dict[str, str] = {}
        for name, value in self._pairs:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            joined[key] = f"{joined[key]}, {text}" if key in joined else text
        return Response(self.status, CaseInsensitiveDict(joined), self.body, keeps=self.keeps)

    def on_message_begin(self) -> None:
        """Refuse what follows the answer: it would be taken for the next one's."""
        if self.is_whole:
            self.keeps = False
            raise _Unusual

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and no trailers."""
        if self._is_headed:
            return
        if len(self._pairs) == MAX_HEADERS or name.lower() == b"content-encoding":
            raise _Unusual
        self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status, and forget an interim answer."""
        self.status = self.parser.get_status_code()
        if self.status == 101:  # noqa: PLR2004
            raise _Unusual
        self._is_headed = self.status >= 200  # noqa: PLR2004
        if not self._is_headed:
            self._pairs.clear()

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note that nothing is missing, unless that was an interim answer."""
        self.is_whole = self._is_headed
        self.keeps = self.is_whole and self.parser.should_keep_alive()


class _Buffer(io.BufferedReader):
    """Notes, when http.client is done with it, whether bytes are left over."""

    raw: DeadlineReader

    def close(self) -> None:
        if not self.closed:
            self.raw.is_over = True
            self.raw.leaves_bytes = bool(self.peek(1))
        super().close()


class DeadlineReader(io.RawIOBase):
    """Reads an answer from a socket until a deadline, a time.monotonic().

    The socket applies its timeout to each read: a server that dribbles could take forever. What has
    been read before, and failed then, can be given to be read again.
    """

    def __init__(
        self, sock: socket.socket, end: float, begun: bytes = b"", failed: OSError | None = None
    ) -> None:
        self._sock = sock
        self._end = end
        self._begun = begun
        self._failed = failed
        self.is_over = False
        """Nothing more is read from the socket."""
        self.leaves_bytes = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what http.client reads from."""
        return _Buffer(self)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what comes next. Raises OSError."""
        if self._begun:
            part, self._begun = self._begun[: len(buffer)], self._begun[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)
        if self.is_over:
            return 0
        if self._failed:
            raise self._failed
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer came too slowly")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _DeadlineResponse(client.HTTPResponse):
    """An answer as http.client reads it."""

    def flush(self) -> None:
        """Return at once, as nothing is written.

        http.client would flush what it has closed already, of which Python 3.13 tells on stderr.
        """

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (1xx); http.client skips 100 only. 101 is final."""
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 101 < line[1] < 200:  # noqa: PLR2004
                return line
            client.parse_headers(self.fp)


def read_answer(sock: socket.socket, end: float) -> Response:
    """Return the answer that comes by `end`, a time.monotonic().

    The first read has the timeout that the socket has. Raises OSError or http.client.HTTPException
    where no head of an answer comes.
    """
    answer = _Answer()
    parser = answer.parser = HttpResponseParser(answer)
    begun = b""
    failed = None
    try:
        while data := sock.recv(CHUNK):
            begun += data
            parser.feed_data(data)
            if len(begun) > MAX_ANSWER:
                break
            if answer.is_whole:
                return answer.response()
            sock.settimeout(max(end - time.monotonic(), 0.001))
    except (HttpParserError, HttpParserUpgrade):
        if answer.is_whole:
            return answer.response()
    except OSError as error:
        failed = error
    finally:
        # A cycle would be left to the garbage collector.
        answer.parser = None
    return read_again(DeadlineReader(sock, end, begun, failed))


def read_again(source: DeadlineReader) -> Response:
    """Return an answer as http.client reads it. Raises as `read_answer`."""
    with closing(source):
        # Of HEAD, which the adapter does not send, an answer would have no body.
        read = _DeadlineResponse(source, method="GET")  # type: ignore[arg-type]
        read.begin()
        raw = HTTPResponse(
            read,
            HTTPHeaderDict(read.msg.items()),
            read.status,
            preload_content=False,
            original_response=read,
        )
        with closing(raw):
            body, trouble = _read_body(raw, MAX_ANSWER)
        is_whole = raw.status >= 200 and not trouble  # noqa: PLR2004
        keeps = is_whole and not (read.will_close or source.leaves_bytes)
        return Response(raw.status, CaseInsensitiveDict(raw.headers), body, trouble, keeps=keeps)


def _read_body(response: Any, limit: int) -> tuple[bytes, str]:
    """Return the body of urllib3's response, and what went wrong if it is incomplete."""
    body = bytearray()
    try:
        if response.status < 200:  # noqa: PLR2004
            # Another answer follows, which must not be taken for the next request's.
            response.close()
        for chunk in _chunks(response):
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), "answer too long"
    except Exception as error:  # noqa: BLE001 - whatever it is, the request has been sent
        return bytes(body), name_of(error)
    return bytes(body), ""


def _chunks(raw: Any) -> Iterator[bytes]:
    """Read as it comes: urllib3's stream withholds what came before an error."""
    if raw.chunked:
        return raw.stream(CHUNK, decode_content=True)  # type: ignore[no-any-return]
    return iter(partial(raw.read1, CHUNK, decode_content=True), b"")
