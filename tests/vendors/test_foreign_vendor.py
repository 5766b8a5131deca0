"""The client with a vendor of another package, which may do anything: there are four outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness.raw_server import Server, http_answer, says
from smsq_worker.config.gateway_address import Address
from smsq_worker.domain.states import Outcome
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.vendor import GatewayResult, Request, VendorOptions

GOOD = http_answer(b'{"code": 200, "msg": "ok", "mid": "A1"}')
HEADERS = {"X-Name": "value"}


@contextmanager
def calling(
    server: Server, *, request: Callable[..., Any] | None = None, result: Any = None
) -> Iterator[Gateway]:
    vendor: Any = OneOc(VendorOptions(server.url, "secret"))
    if request:
        vendor.request = request
    if result:

        def understand(*args: Any, **kwargs: Any) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

        vendor.understand = understand
    made = Gateway(Address(server.url, "secret"), vendor)
    try:
        yield made
    finally:
        made.close()


def test_a_post_is_written_with_its_length_in_one_piece() -> None:
    body = "名=1&x=\r\n\r\nGET / HTTP/1.1".encode()
    with Server(says(GOOD)) as server:
        written = Request("POST", f"{server.url}v2/send?a=b", HEADERS, body)
        with calling(server, request=lambda *_: written) as client:
            assert client.submit("13800000001", "T", "1").mid == "A1"
    (request,) = server.requests
    assert request.line == "POST /v2/send?a=b HTTP/1.1"
    assert request.headers[1:] == [("X-Name", "value"), ("Content-Length", str(len(body)))]
    assert request.body == body


def test_a_post_over_a_connection_that_was_closed_is_written_once_over_another() -> None:
    def then_closes(sock: Any, request: Any) -> bool:
        sock.sendall(GOOD)
        return False

    with Server(then_closes) as server:
        written = Request("POST", f"{server.url}send", HEADERS, b"a=1")
        with calling(server, request=lambda *_: written) as client:
            for _ in range(3):
                assert client.submit("13800000001", "T", "1").mid == "A1"
                server.ended.acquire()
    assert [(one.connection, one.body) for one in server.requests] == [
        (1, b"a=1"),
        (2, b"a=1"),
        (3, b"a=1"),
    ]


def test_a_post_that_is_not_answered_is_doubt_and_not_written_again() -> None:
    with Server(lambda sock, request: False) as server:
        written = Request("POST", f"{server.url}send", HEADERS, b"a=1")
        with calling(server, request=lambda *_: written) as client:
            assert client.submit("13800000001", "T", "1").outcome is Outcome.MAYBE_SENT
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("method", "body", "has_length"),
    [("GET", b"", False), ("POST", b"", True), ("GET", b"x", True)],
)
def test_only_a_get_without_a_body_has_no_length(
    method: str, body: bytes, has_length: bool
) -> None:
    with Server(says(GOOD)) as server:
        written = Request(method, f"{server.url}x", HEADERS, body)
        with calling(server, request=lambda *_: written) as client:
            client.submit("13800000001", "T", "1")
    headers = dict(server.requests[0].headers)
    assert headers.get("Content-Length") == (str(len(body)) if has_length else None)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(Request("POST", "/x", {}), id="a URL without a host"),
        pytest.param(Request("POST", "http://h/x", {"A": "1\r\nB: 2"}), id="a line break"),
        pytest.param(Request("POST", "http://h/x\r\nB: 2", {}), id="a line break in the URL"),
        pytest.param(Request("POST", "http://h/x", {"A": "名"}), id="not Latin-1"),
        pytest.param(Request("POST", "http://h/x", {}, "text"), id="a body of text"),  # type: ignore[arg-type]
        pytest.param(None, id="no request"),
    ],
)
def test_what_cannot_be_written_was_certainly_not_sent(written: Any) -> None:
    with Server(says(GOOD)) as server, calling(server, request=lambda *_: written) as client:
        client._retrying = client._retrying.copy(wait=lambda _: 0)
        call = client.submit("13800000001", "T", "1")
    assert call.outcome is Outcome.NOT_SENT
    assert server.connections == 0


def test_an_error_before_the_request_is_not_sent_and_after_it_doubt() -> None:
    def broken(*_: str) -> Request:
        raise KeyError("13800000001")

    with Server(says(GOOD)) as server:
        with calling(server, request=broken) as client:
            before = client.submit("13800000001", "T", "1")
        with calling(server, result=KeyError("13800000001")) as client:
            after = client.submit("13800000001", "T", "1")
    assert (before.outcome, before.detail) == (Outcome.NOT_SENT, "KeyError")
    assert (after.outcome, after.detail) == (Outcome.MAYBE_SENT, "KeyError")


@pytest.mark.parametrize("mid", ["A 1", "", "é", "x" * 65, "smsq-test:1", "A\n1"])
def test_a_mid_that_could_not_be_reported_on_is_none(mid: str) -> None:
    odd = GatewayResult(Outcome.ACCEPTED, "", mid)
    with Server(says(GOOD)) as server, calling(server, result=odd) as client:
        call = client.submit("13800000001", "T", "1")
    assert (call.outcome, call.mid) == (Outcome.ACCEPTED, "")
    assert call.detail == ("no usable mid" if mid else "")
