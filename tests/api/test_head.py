"""Where a head and a body end, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api_requests import RAW
from smsq_worker.api.framing import Chunks, Length, body_of
from smsq_worker.api.head import END, BadRequestError, may_begin, path_in, read_head


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_head_is_read() -> None:
    found = read_head(head("POST /a%20b?c=d HTTP/1.1", "Host: x", "Content-Length: 7"))
    assert (found.method, found.path, found.query) == ("POST", b"/a%20b", b"c=d")
    assert found.headers == [(b"host", b"x"), (b"content-length", b"7")]
    assert (found.length, found.keeps_alive, found.awaits_continue) == (7, True, False)


def test_blanks_around_a_value_are_none_of_it() -> None:
    lines = ["Content-Length: 7\t ", "Expect: 100-continue "]
    found = read_head(head("POST / HTTP/1.1", *lines))
    assert (found.length, found.awaits_continue) == (7, True)
    assert not read_head(head("POST / HTTP/1.0", *lines)).awaits_continue


@pytest.mark.parametrize(
    ("lines", "length", "keeps_alive"),
    [
        pytest.param(["GET / HTTP/1.1"], 0, True, id="no body"),
        pytest.param(["GET / HTTP/1.0", "Connection: keep-alive"], 0, False, id="1.0"),
        pytest.param(["GET / HTTP/1.1", "Connection: x, Close"], 0, False, id="close"),
        pytest.param(["POST / HTTP/1.1", "Transfer-Encoding: Chunked"], None, True, id="chunks"),
        pytest.param(["POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"], None, True, id="two"),
        pytest.param(
            ["POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 3"],
            *(3, True),
            id="an offer with a length",
        ),
        pytest.param(
            ["POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: x", "Transfer-Encoding: chunked"],
            *(None, True),
            id="an offer with chunks",
        ),
    ],
)
def test_it_says_how_long_the_body_is_and_whether_more_may_follow(
    lines: list[str], length: int | None, keeps_alive: bool
) -> None:
    found = read_head(head(*lines))
    assert (found.length, found.keeps_alive) == (length, keeps_alive)


@pytest.mark.parametrize(
    "lines",
    [
        ["POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"],
        ["POST / HTTP/1.1", "Content-Length: +1"],
        ["POST / HTTP/1.1", f"Content-Length: {'0' * 5000}1"],
        ["POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["POST / HTTP/1.1", "Transfer-Encoding: chunked, gzip"],
        ["POST / HTTP/1.1", "Connection: Upgrade", "Upgrade: x", "Transfer-Encoding: gzip"],
        ["POST / HTTP/1.1", "Transfer-Encoding : chunked"],
        ["GET / HTTP/1.1", "Host: x\n"],
        ["GET /  HTTP/1.1 x"],
        ["GET /?code=12#34 HTTP/1.1"],
        ["CONNECT x:443 HTTP/1.1"],
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadRequestError):
        read_head(head(*lines))


@given(st.binary(max_size=200) | st.sampled_from(sorted(RAW.values())))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    assert isinstance(path_in(data), str)
    found = END.search(data)
    if found and may_begin(data):
        with suppress(BadRequestError):
            read_head(data[: found.end()])


def test_of_a_length_only_that_is_body() -> None:
    assert body_of(0) is None
    body = Length(5)
    assert body.take(b"abc") == (b"abc", b"")
    assert not body.has_ended
    assert body.take(b"defgh") == (b"de", b"fgh")
    assert (body.has_ended, body.overhead) == (True, 0)


WIRE = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("cut", range(1, len(WIRE)))
def test_chunks_are_read_wherever_the_wire_cuts_them_and_the_rest_is_counted(cut: int) -> None:
    body = Chunks()
    first, _ = body.take(WIRE[:cut])
    assert not body.has_ended
    second, rest = body.take(WIRE[cut:])
    assert (first + second, rest, body.has_ended, body.is_last) == (b"abcde", b"", True, False)
    assert body.overhead == len(WIRE) - len(b"abcde")


@pytest.mark.parametrize("more", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"POST /"])
def test_what_comes_with_the_end_of_chunks_is_no_body(more: bytes) -> None:
    body = Chunks()
    assert body.take(WIRE + more) == (b"abcde", b"")
    assert (body.has_ended, body.is_last) == (True, True)


@pytest.mark.parametrize(
    "wire", [b"x\r\n", b"-1\r\n", b"1\r\nab\r\n", b"1\nx", b"f" * 17 + b"\r\n"]
)
def test_malformed_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(BadRequestError):
        Chunks().take(wire)
