"""On one connection: all that is not body is bounded, and nothing is read ahead."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
import redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.api import (
    PATIENT,
    Serve,
    answer_of,
    connection,
    in_process,
    inbox,
    served_by,
)
from harness.api_requests import PLAIN, lines
from harness.credentials import RELAY, TOKEN
from harness.relay_requests import bare
from harness.waiting import eventually
from smsq import keys
from smsq_worker.api.crowd import Bounds
from smsq_worker.api.head import MAX_HEAD
from smsq_worker.api.protocol import LINGER_BYTES, PIECE, BoundedProtocol
from smsq_worker.api.refusals import RefusalCounter
from smsq_worker.api.report_addresses import ReportAddresses
from smsq_worker.api.server import configured
from smsq_worker.api.sharing import Shared
from smsq_worker.config.settings import Settings

GET = b"GET /healthz HTTP/1.1\r\nHost: door\r\n\r\n"
CHUNKED = (
    f"POST /reports/{TOKEN} HTTP/1.1\r\nHost: door\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
)
PAD = b"x" * MAX_HEAD
REPORTS = ReportAddresses.of(Settings(report_token=TOKEN))
NO_BODY = {
    "first-line": b"GET /" + PAD,
    "headers": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 3000,
    "blank-lines": b"\r\n" * MAX_HEAD,
    "blank-lines-and-a-head": b"\r\n" * (MAX_HEAD // 2) + GET,
    "after-an-answer": GET + b"GET /" + PAD,
    "extension": CHUNKED + b"1;" + PAD,
    "extensions": CHUNKED + (b"1;" + b"x" * 1000 + b"\r\ny\r\n") * 20,
    "tiny-chunks": CHUNKED + b"1\r\ny\r\n" * 5000,
    "trailers": CHUNKED + b"0\r\n" + b"T: x\r\n" * 4000,
    "a-trailer": CHUNKED + b"0\r\nT: " + PAD * 2,
}


@pytest.mark.parametrize("sent", NO_BODY.values(), ids=NO_BODY)
def test_every_byte_that_is_no_body_counts_as_head(
    serve: Serve, client: redis.Redis, sent: bytes
) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(sent)
        told = answer_of(sock)
    assert re.findall(rb"HTTP/1\.1 (\d+)", told)[-1] == b"431"
    assert b"must have at most 16384 bytes" in told
    assert inbox(client) == set()


def test_a_body_in_chunks_has_its_framing_and_trailers_within_that(
    serve: Serve, client: redis.Redis
) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in PLAIN)
    with serve() as url, connection(url) as sock:
        for _ in range(3):
            sock.sendall(CHUNKED + chunks + b"0\r\nT: " + b"x" * 10_000 + b"\r\n\r\n")
            told = b""
            while not told.endswith(b"}"):
                told += sock.recv(65_536)
            assert told.startswith(b"HTTP/1.1 200 ")
    assert len(inbox(client)) == 1


def test_malformed_chunks_are_answered_400(serve: Serve) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(CHUNKED + b"2\r\n{}\r\nnonsense\r\n")
        told = answer_of(sock)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"chunks are malformed" in told


def test_what_follows_a_body_in_chunks_at_once_is_not_answered(serve: Serve) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(PLAIN), PLAIN) + GET)
        told = answer_of(sock)
    assert told.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in told


def test_a_body_that_is_not_read_ends_the_connection(serve: Serve) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        told = answer_of(sock)
    assert told.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in told


def test_tls_on_the_plain_port_is_told_so_at_once(serve: Serve) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert answer_of(sock).startswith(b"HTTP/1.1 400 ")


class Waiting:
    """An application whose requests wait until they are let go."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = Event()

    async def answer(self, request: Request) -> Response:
        self.seen.append(request.url.path)
        await asyncio.to_thread(self.go.wait)
        return JSONResponse({})


def watched(waiting: Waiting) -> tuple[Any, list[BoundedProtocol]]:
    class Watched(PATIENT):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            connections.append(self)
            super().connection_made(transport)

    connections: list[BoundedProtocol] = []
    app = Starlette(routes=[Route("/{n}", waiting.answer)])
    app.state.refusals = RefusalCounter(REPORTS)
    return configured(app, (), protocol=Watched, bounds=Bounds(per_s=1e6)), connections


def test_one_request_is_under_way_and_nothing_is_read_ahead_of_it() -> None:
    waiting = Waiting()
    config, connections = watched(waiting)
    with in_process(config) as url, connection(url) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        sock.setblocking(False)
        requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(1000))
        sent = sock.send(requests)
        eventually(lambda: waiting.seen)
        (protocol,) = connections
        eventually(lambda: protocol._flow.read_paused)
        with suppress(BlockingIOError):
            while True:  # until nothing more fits between here and there
                sent += sock.send(requests)
        assert waiting.seen == ["/0"]
        assert len(protocol._ahead) <= PIECE
        assert len(protocol._server_state.tasks) == 1
        waiting.go.set()
        sock.setblocking(True)
        told = b""
        while told.count(b"HTTP/1.1 200") < 1000:
            told += sock.recv(65_536)
    assert waiting.seen[:1000] == [f"/{n}" for n in range(1000)]


def test_a_server_that_stops_answers_what_is_under_way_and_takes_no_more() -> None:
    waiting = Waiting()
    config, connections = watched(waiting)
    with in_process(config) as url, connection(url) as idle, connection(url) as busy:
        busy.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: waiting.seen)
        eventually(lambda: len(connections) == 2)
        for one in connections:
            one._loop.call_soon_threadsafe(one.shutdown)
        assert answer_of(idle) == b""
        waiting.go.set()
        assert b"connection: close" in answer_of(busy)


def test_what_comes_after_the_last_answer_is_dropped_and_bounded(serve: Serve) -> None:
    with serve(served_by(600.0)) as url, connection(url) as sock:
        sock.sendall(b"\x00" * 1000)
        with pytest.raises(ConnectionError):
            sock.sendall(b"x" * LINGER_BYTES * 50)


def test_a_client_that_resets_before_its_last_answer_is_no_bug(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    gone = struct.pack("ii", 1, 0)
    with serve() as url:
        for n in range(50):
            with connection(url) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, gone)
                sock.sendall(b"GET /%d HTTP/1.0\r\n\r\n" % n)
        with connection(url) as sock:
            sock.sendall(GET)
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


def test_a_client_that_ends_its_own_half_is_answered(serve: Serve, client: redis.Redis) -> None:
    form = bare().encode()
    relayed = lines(
        "POST / HTTP/1.1", f"Authorization: {RELAY}", f"Content-Length: {len(form)}", body=form
    )
    with serve() as url:
        for request, number in ((relayed, 1), (GET * 3, 3), (GET + b"GET /x", 1)):
            with connection(url) as sock:
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                assert answer_of(sock).count(b"HTTP/1.1 200 ") == number
        with connection(url) as sock:
            sock.sendall(relayed[:-1])
            sock.shutdown(socket.SHUT_WR)
            assert answer_of(sock) == b""
    assert len([*client.scan_iter(keys.message("*"))]) == 1


def test_a_crowd_that_asks_the_same_shares_what_comes_after_its_asking() -> None:
    began: list[int] = []

    async def crowd() -> tuple[list[int], list[int]]:
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def act() -> int:
            began.append(len(began))
            has_begun.set()
            await may_end.wait()
            return began[-1]

        shared = Shared(act, 60.0)
        first = [asyncio.create_task(shared.result()) for _ in range(50)]
        await has_begun.wait()
        second = [asyncio.create_task(shared.result()) for _ in range(50)]
        may_end.set()
        return await asyncio.gather(*first), await asyncio.gather(*second)

    assert asyncio.run(crowd()) == ([0] * 50, [1] * 50)
    assert began == [0, 1]
