"""What is read of an answer: the same by httptools and by http.client, however it is cut up."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.exceptions import InvalidHeader

from smsq_worker.infra import answer as answers
from smsq_worker.infra.answer import MAX_ANSWER, DeadlineReader, read_again, read_answer

BODY = b'{"code": 200, "msg": "ok", "mid": "A1"}'
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (5, BODY[:5], len(BODY) - 5, BODY[5:])

GOOD = [
    pytest.param(OK + LENGTH + b"\r\n" + BODY, id="a length"),
    pytest.param(OK + CHUNKED + b"\r\n" + CHUNKS, id="chunks"),
    pytest.param(OK + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY, id="an end announced"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="no content"),
    pytest.param(b"HTTP/1.1 304 Same\r\n" + LENGTH + b"\r\n", id="a length of nothing"),
    pytest.param(b"HTTP/1.0 200 OK\r\n" + LENGTH + b"\r\n" + BODY, id="HTTP 1.0"),
    pytest.param(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY, id="1.0, kept"
    ),
    pytest.param(b"HTTP/1.1 503\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", id="no reason"),
    pytest.param(
        OK + b"A: 1\r\na: 2\r\nB:\r\nC:  c \t\r\n" + LENGTH + b"\r\n" + BODY, id="headers"
    ),
    pytest.param(
        b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 100 Go\r\n\r\n" + OK + LENGTH + b"\r\n" + BODY,
        id="interim answers",
    ),
    pytest.param(OK + "X: 成功\r\n".encode() + LENGTH + b"\r\n" + BODY, id="UTF-8 in a header"),
]


def read(parts: list[bytes], *, ends: bool, timeout_s: float = 5.0) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for part in parts:
            theirs.sendall(part)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(timeout_s)
        return read_answer(ours, time.monotonic() + timeout_s)


def read_by_http_client(data: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        return read_again(DeadlineReader(ours, time.monotonic() + 5))


def told(answer: Any) -> tuple[Any, ...]:
    headers = {name.lower(): text.strip() for name, text in answer.headers.items()}
    return answer.status_code, headers, answer.content, answer.trouble, answer.keeps


@pytest.mark.parametrize("data", GOOD)
def test_httptools_reads_what_http_client_reads(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = told(read_by_http_client(data))
    monkeypatch.setattr(answers, "read_again", None)
    assert told(read([data], ends=False)) == wanted


@pytest.mark.parametrize("data", GOOD)
def test_however_an_answer_is_cut_up_it_is_the_same(data: bytes) -> None:
    whole = told(read([data], ends=False))
    for at in range(1, len(data)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data[:at])
            cut = _Cut(ours, theirs, data[at:])
            assert told(read_answer(cut, time.monotonic() + 5)) == whole  # type: ignore[arg-type]


class _Cut:
    """A socket to which the rest comes when the first part has been read."""

    def __init__(self, sock: socket.socket, other: socket.socket, rest: bytes) -> None:
        self._sock = sock
        self._other = other
        self._rest = rest

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        self._other.sendall(self._rest)
        self._rest = b""
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


lines = st.sampled_from(
    [
        OK, b"HTTP/1.1 100 Go\r\n", b"HTTP/1.1 101 Up\r\n", b"HTTP/1.0 200\r\n", LENGTH, CHUNKED,
        b"\r\n", b"\r\n\r\n", BODY, CHUNKS, b"0\r\n\r\n", b"Content-Length: 7\r\n", b"bad\r\n",
        b"Content-Length: x\r\n", b"Content-Encoding: gzip\r\n", b"Upgrade: x\r\n", b"\n", b"\r",
        b"Connection: upgrade\r\n", b"Connection: close\r\n", b"X: \0\r\n", b"X:\r\n y\r\n",
        b"\xff", b"Transfer-Encoding: gzip\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"{",
        b"X: y\r\n" * 120,
    ]
)  # fmt: skip


@settings(max_examples=300)
@given(parts=st.lists(lines | st.binary(max_size=9), max_size=12))
@example(parts=[OK, LENGTH, b"\r\n", BODY, OK, LENGTH, b"\r\n", BODY])
@example(parts=[b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", BODY])
def test_whatever_comes_it_ends_and_only_a_whole_answer_keeps_its_connection(
    parts: list[bytes],
) -> None:
    with suppress(OSError, http.client.HTTPException, InvalidHeader):
        answer = read(parts, ends=True)
        assert 100 <= answer.status_code <= 999
        assert len(answer.content) <= MAX_ANSWER
        # A byte after it, and it would not.
        assert not answer.keeps or not read([*parts, b"!"], ends=True).keeps
        assert not (answer.keeps and answer.trouble)
