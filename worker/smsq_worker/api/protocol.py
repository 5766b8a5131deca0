"""HTTP on one connection, with the bounds that uvicorn lacks.

uvicorn waits for ever for the head of a request and for a client to read its answer, so a thousand
idle connections would shut everyone else out; it has no option for either, and bounds a head's
length only with h11, which is slower. Its parser refuses a Chinese template that is not
percent-encoded, as in the gateway's own samples, and drops the body of a request that offers an
upgrade, as Java's HttpClient does.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD: Final = 16_384
PIECE: Final = 4096
"""Bytes that are parsed at a time: a head may exceed MAX_HEAD by at most this."""
_OFFER: Final = frozenset({b"upgrade", b"http2-settings"})
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose head is too long or too slow, or whose answer is not read.

    There is always one timer: this one, or uvicorn's own for idle connections.
    """

    head_timeout_s = 10.0
    answer_timeout_s = 120.0
    """For the body, the answer and its being read; the first two take less in any case."""
    _timer: asyncio.TimerHandle | None = None
    _is_between = True
    """No byte of the next request has come."""
    _in_first_line = False
    """The next byte belongs to a request's first line."""
    _in_head = True
    _head_bytes = 0
    _refused = False
    _lost = False
    _piece = b""
    _offered = b""
    """The head of a request that offered an upgrade, without the offer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first head's timer."""
        super().connection_made(transport)
        # Otherwise an answer's body waits some 40 ms until the client has acknowledged its head.
        # asyncio sets this only for sockets that name their protocol.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start_timer(self.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._lost = True
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, piece by piece, until the connection is refused or closed."""
        for start in range(0, len(data), PIECE):
            if self._refused or self.transport.is_closing():
                break
            piece = data[start : start + PIECE]
            self._parse(self._encoded(piece))
            if self._in_head:
                self._head_bytes += len(piece)
                if self._head_bytes > MAX_HEAD:
                    self._refuse(431, f"a request's head must have at most {MAX_HEAD} bytes")
        # uvicorn has stopped its timer because of these bytes, whatever they are.
        if self._timer is None:
            self._start_timer(self.head_timeout_s)

    def on_message_begin(self) -> None:
        """Start to count the bytes of a head."""
        super().on_message_begin()
        self._is_between, self._in_head, self._head_bytes = False, True, 0

    def on_headers_complete(self) -> None:
        """Start the answer's timer."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._offered = self._head_without_offer()
            return
        self._in_head = False
        limit = self.limit_concurrency
        if limit is not None and max(len(self.connections), len(self.tasks)) >= limit:
            self._note_refusal(503)  # uvicorn is about to send that
        self._start_timer(self.answer_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next request."""
        if self._offered:
            return
        self._is_between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Leave an idle connection to uvicorn's timer; start the next answer's."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._stop_timer()
        else:
            self._start_timer(self.answer_timeout_s)

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, whether or not its last answer has been read."""
        self._end()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the form of all other answers."""
        self._refuse(400, msg)

    def _parse(self, data: bytes) -> None:
        self._piece = data
        super().data_received(data)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an offered upgrade, as HTTP allows, and parse the request again without it.

        uvicorn calls this where the parser has stopped after a head, with the rest unread.
        """
        stopped: Any = sys.exception()
        rest, head = self._piece[stopped.args[0] :], self._offered
        self._offered = b""
        if head:
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self._parse(head + rest)

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                wanted = [word for word in value.split(b",") if word.strip().lower() not in _OFFER]
                lines.append(b"%s: %s" % (name, b",".join(wanted)))
            elif name not in _OFFER:
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _encoded(self, piece: bytes) -> bytes:
        """Percent-encode what is not ASCII in a first line that begins a piece.

        Pipelined requests are left alone: clients of the gateway do not pipeline.
        """
        self._in_first_line |= self._is_between
        if not self._in_first_line:
            return piece
        line, end, rest = piece.partition(b"\n")
        self._in_first_line = not end
        return _NOT_ASCII.sub(lambda byte: b"%%%02X" % ord(byte[0]), line) + end + rest

    def _refuse(self, status: int, msg: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._note_refusal(status)
        body = json.dumps({"code": status, "msg": msg}).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
        if self.cycle and not self.cycle.response_complete:
            self.transport.close()
        else:
            # Closing with unread bytes would reset the connection before the answer is read; the
            # timer closes it.
            self.transport.write_eof()

    def _note_refusal(self, status: int) -> None:
        app: Any = self.config.app
        path, _, _ = getattr(self, "url", b"").partition(b"?")
        host = self.client[0] if self.client else "no address"
        app.state.refusals.note(unquote(path.decode("latin-1")), status, host)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        if not self._lost:
            self._timer = self.loop.call_later(seconds, self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._in_head and not (self._is_between or self._refused):
            self._note_refusal(408)
        # close() would wait for the client to read what is left.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
