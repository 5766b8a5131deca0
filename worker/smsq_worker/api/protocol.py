"""HTTP/1.1 on one connection, with a bound on all that a client can send or leave undone.

uvicorn takes any protocol class. Its own ones read pipelined requests and trailers into memory
without bound, wait for ever for a head and for an answer to be read, and drop the body of a request
that offers an upgrade. Here one request is under way at a time and nothing is read ahead of it, but
for the bytes that came in one piece with its end; each state of a connection has a deadline.

Borrowed from uvicorn are the ASGI side of a request (`RequestResponseCycle`) and its flow control;
tests/api/test_borrowed.py names each part.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from smsq_worker.api.auth import KNOWN
from smsq_worker.api.body import BROKEN
from smsq_worker.api.crowd import Crowd
from smsq_worker.api.cycle import Cycle, refusal
from smsq_worker.api.framing import Body, body_of
from smsq_worker.api.head import END, MAX_HEAD, BadRequestError, Head, may_begin, path_in, read_head
from smsq_worker.api.refusals import RefusalCounter
from smsq_worker.api.report_addresses import REPORTER
from smsq_worker.api.throttle import address_of

log = logging.getLogger(__name__)

PIECE: Final = 8192
"""Bytes that are read at a time."""
LINGER_BYTES: Final = 262_144
"""What is still read, and dropped, after the last answer: closing with unread bytes would reset
the connection before the client has read that. Whoever sends more waits until the end."""
_DROPPED: Final = bytearray(65_536)
"""Where that is read to; nobody looks into it."""
TOO_LONG: Final = f"a request's head must have at most {MAX_HEAD} bytes"


class BoundedProtocol(asyncio.BufferedProtocol):
    """Reads one request after the other, and closes a connection that is too long or too slow.

    There is always one timer.
    """

    head_timeout_s = 10.0
    answer_timeout_s = 120.0
    """For the body, the answer and its being read; the first two take less in any case."""
    linger_timeout_s = 3.0
    _transport: asyncio.Transport
    _flow: FlowControl
    _timer: asyncio.TimerHandle | None = None
    _client: tuple[str, int] | None = None
    _here: tuple[str, int | None] | None = None
    _cycle: Cycle | None = None
    """The last request that was read."""
    _body: Body | None = None
    """What is still to come of it."""
    _head_bytes = 0
    """Those of blank lines before a head, and those of a head that has been read."""
    _is_idle = False
    """No byte of the next request has come."""
    _is_half_closed = False
    """The client sends nothing more. It may still read."""
    _is_lingering = False
    """All has been answered; what still comes is dropped."""
    _dropped = 0
    _searched = 0
    """Up to here no head ends."""

    def __init__(
        self,
        refusals: RefusalCounter,
        crowd: Crowd,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._refusals = refusals
        self._crowd = crowd
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._buffer = bytearray(PIECE)
        self._ahead = bytearray()
        """What has come and was not consumed: of a head, or of a request to come."""
        self.idle_since = self._loop.time()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first head's timer, if there is room for this connection."""
        self._transport, self._flow = transport, FlowControl(transport)
        self._client, self._here = _plain(get_remote_addr(transport)), get_local_addr(transport)
        # Otherwise an answer's body waits some 40 ms until the client has acknowledged its head.
        # asyncio sets this only for sockets that name their protocol.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._start_timer(self.head_timeout_s)
        if not self._crowd.enter(self, self._client[0] if self._client else ""):
            self._refuse(503, "too many connections")
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the request in progress, if any."""
        del exc
        self._server_state.connections.discard(self)
        self._crowd.leave(self)
        self._stop_timer()
        self._ahead.clear()
        self._flow.resume_writing()
        if self._cycle:
            self._cycle.disconnected |= not self._cycle.response_complete
            self._cycle.message_event.set()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where asyncio puts what it reads next."""
        del sizehint
        return _DROPPED if self._is_lingering else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._is_lingering:
            self._dropped += nbytes
            if self._dropped > LINGER_BYTES:
                self._flow.pause_reading()
            return
        was_idle, self._is_idle = self._is_idle, False
        self._ahead += memoryview(self._buffer)[:nbytes]
        self._consume()
        if was_idle and not (self.is_busy or self._is_lingering):
            self._start_timer(self.head_timeout_s)

    def eof_received(self) -> bool:
        """Return whether something is still to be answered: a client may end only its own half."""
        self._is_half_closed = True
        return self.is_busy and not self._body

    def pause_writing(self) -> None:
        """Hold back the response until the client reads."""
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._flow.resume_writing()

    # What uvicorn and the crowd call.

    def shutdown(self) -> None:
        """Close after the request under way."""
        if self._cycle and self.is_busy:
            self._cycle.keep_alive = False
        else:
            self._transport.close()

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return self._cycle is not None and not self._cycle.response_complete

    def give_way(self) -> None:
        """End at once."""
        # close() would wait for the client to read what is left.
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    # What has come.

    def _consume(self) -> None:
        while self._ahead and not self._transport.is_closing():
            if self._body:
                self._read_body(self._body)
            elif self.is_busy:
                self._flow.pause_reading()
                break
            elif not self._read_head():
                break

    def _read_head(self) -> bool:
        """Begin a request; return False where its head has not come whole."""
        if self._ahead[0] in b"\r\n":
            blank = len(self._ahead) - len(self._ahead.lstrip(b"\r\n"))
            del self._ahead[:blank]
            self._head_bytes += blank
        found = END.search(self._ahead, max(0, self._searched - 3))
        self._searched = 0 if found else len(self._ahead)
        length = found.end() if found else len(self._ahead)
        if self._head_bytes + length > MAX_HEAD:
            self._refuse(431, TOO_LONG)
        elif self._ahead and not may_begin(self._ahead):
            self._refuse(400, "this is not HTTP")
        elif found:
            raw = bytes(self._ahead[:length])
            try:
                head = read_head(raw)
            except BadRequestError:
                self._refuse(400, "this is not HTTP")
            else:
                del self._ahead[:length]
                self._head_bytes += length
                self._begin(head)
        return found is not None

    def _begin(self, head: Head) -> None:
        transport = self._transport
        self._body = body_of(head.length)
        path = unquote(head.path.decode("ascii"))
        self._cycle = cycle = Cycle(
            scope={
                "type": "http",
                "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
                "http_version": head.version,
                "server": self._here,
                "client": self._client,
                "scheme": "http",
                "method": head.method,
                "root_path": "",
                "path": path,
                "raw_path": head.path,
                "query_string": head.query,
                "headers": head.headers,
                "state": self._app_state.copy(),
                REPORTER: self._refusals.addresses.of_path(path),  # type: ignore[typeddict-unknown-key]
            },
            # As a request sees it.
            transport=SimpleNamespace(  # type: ignore[arg-type]
                write=transport.write, is_closing=transport.is_closing, close=self._finish
            ),
            flow=self._flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=self._server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.awaits_continue,
            keep_alive=head.keeps_alive,
            on_response=self._on_response,
        )
        if not self._body:
            cycle.more_body = False
            cycle.message_event.set()
        self._start_timer(self.answer_timeout_s)
        task = self._loop.create_task(cycle.run_asgi(self._config.loaded_app))
        task.add_done_callback(self._server_state.tasks.discard)
        self._server_state.tasks.add(task)

    def _read_body(self, body: Body) -> None:
        cycle = self._cycle
        assert cycle  # noqa: S101 - for the type checker
        try:
            came, rest = body.take(bytes(self._ahead))
        except BadRequestError:
            self._break_off(cycle, 400, "the body's chunks are malformed")
            return
        self._ahead[:] = rest
        if self._head_bytes + body.overhead > MAX_HEAD:
            self._break_off(cycle, 431, TOO_LONG)
            return
        cycle.body += came
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        if body.has_ended:
            self._body = None
            cycle.more_body = False
            cycle.keep_alive &= not body.is_last
        cycle.message_event.set()

    def _break_off(self, cycle: Cycle, status: int, msg: str) -> None:
        """Answer the request in progress with this error; read nothing more of it."""
        self._body = None
        cycle.scope[BROKEN] = status, msg  # type: ignore[typeddict-unknown-key]
        cycle.message_event.set()

    # What goes out.

    def _on_response(self) -> None:
        self._server_state.total_requests += 1
        if self._is_lingering or self._transport.is_closing():
            return
        self.idle_since = self._loop.time()
        cycle = self._cycle
        scope: Any = cycle.scope if cycle else {}
        is_taken = cycle and scope[REPORTER] and cycle.status < HTTPStatus.BAD_REQUEST
        is_known = is_taken or KNOWN in scope
        wait_s = 0.0 if is_known else self._crowd.wait_s(self)
        if wait_s:
            self._flow.pause_reading()
            self._start_timer(wait_s, self._await_request)
        else:
            self._await_request()

    def _await_request(self) -> None:
        self._head_bytes = 0
        self._is_idle = not self._ahead
        self._start_timer(self._config.timeout_keep_alive if self._is_idle else self.head_timeout_s)
        self._flow.resume_reading()
        self._consume()
        if self._is_half_closed and not self.is_busy:
            self._transport.close()

    def _finish(self) -> None:
        """Close once the client has read its last answer, or should have."""
        self.idle_since = self._loop.time()
        self._body = None
        self._ahead.clear()
        self._is_lingering = True
        self._flow.resume_reading()
        with suppress(OSError):  # the client may have reset the connection
            self._transport.write_eof()
        # Not all at the same time, or a crowd that is closed at once is back at once.
        self._start_timer(self.linger_timeout_s * random.uniform(0.5, 1.0))  # noqa: S311
        if self._is_half_closed:
            self._transport.close()

    def _refuse(self, status: int, msg: str) -> None:
        self._note_refusal(status)
        self._transport.write(refusal(status, msg, self._server_state.default_headers))
        self._finish()

    def _note_refusal(self, status: int) -> None:
        host = self._client[0] if self._client else "no address"
        self._refusals.note(path_in(self._ahead), status, host)

    # The timer.

    def _start_timer(self, seconds: float, act: Callable[[], None] | None = None) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, act or self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._ahead and not self.is_busy:
            self._note_refusal(408)
        self.give_way()


def _plain(peer: tuple[str, int] | None) -> tuple[str, int] | None:
    """Return a peer with its IPv4 address as such, also where the socket is one of IPv6.

    uvicorn would not find it among the trusted proxies.
    """
    return peer and (str(address_of(peer[0]) or peer[0]), peer[1])
