"""What the API bears: guessers, slow and endless clients, crowds; and what it believes of whom."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from http.client import HTTPResponse

import pytest
import redis
import requests
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harness.api import (
    IMPATIENT,
    LONG_S,
    PATIENCE_S,
    PATIENT,
    REPORT,
    SHORT_S,
    Serve,
    answer_of,
    connection,
    served_by,
)
from harness.credentials import RELAY, TOKEN
from harness.relay_requests import bare
from harness.waiting import eventually
from smsq import keys
from smsq_worker.api import metrics
from smsq_worker.api.crowd import Bounds
from smsq_worker.api.head import MAX_HEAD
from smsq_worker.api.server import HEADERS
from smsq_worker.api.throttle import MAX_SOURCES, WINDOW_S, WRONG_AT_MOST, SourceThrottle, source_of


def report(url: str, token: str = TOKEN, forwarded: str = "") -> requests.Response:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return requests.post(f"{url}/reports/{token}", json=REPORT, headers=headers, timeout=PATIENCE_S)


def question(url: str, secret: str, forwarded: str = "") -> requests.Response:
    headers = {"Authorization": secret} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    return requests.get(f"{url}/messages/x", headers=headers, timeout=PATIENCE_S)


# --- guessers -------------------------------------------------------------------------------


def test_who_guesses_a_token_is_refused_but_the_right_one_always_passes(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with serve() as url:
        for _ in range(WRONG_AT_MOST):
            assert report(url, "wrong-token-0123456789").status_code == 404
        for _ in range(3):
            refused = report(url, "wrong-token-0123456789")
            assert (refused.status_code, refused.json()["code"]) == (429, 429)
            assert 1 <= int(refused.headers["Retry-After"]) <= WINDOW_S
        assert report(url).status_code == 200
        assert question(url, RELAY).status_code == 404  # it asks with the right secret
    (line,) = [record.getMessage() for record in caplog.records if "wrong" in record.msg]
    assert line == "127.0.0.1 has sent more than 20 wrong tokens"


def test_who_guesses_a_secret_is_refused_even_with_the_right_one(
    serve: Serve, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with serve() as url:
        for _ in range(WRONG_AT_MOST // 2):
            assert question(url, "wrong").status_code == 401
            relayed = requests.get(f"{url}/", headers={"Authorization": "x"}, timeout=PATIENCE_S)
            assert relayed.json() == {"code": 400, "msg": "校验失败", "mid": ""}
        assert question(url, RELAY).status_code == 404
        assert question(url, "wrong").status_code == 429
        refused = question(url, RELAY)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        relayed = requests.get(
            f"{url}/?{bare()}", headers={"Authorization": RELAY}, timeout=PATIENCE_S
        )
        assert (relayed.status_code, relayed.json()["code"], relayed.json()["mid"]) == (
            429,
            400,
            "",
        )
        assert int(relayed.headers["Retry-After"]) >= 1
        assert client.dbsize() == 0
        assert report(url).status_code == 200
    assert "127.0.0.1 has sent more than 20 wrong secrets" in caplog.messages
    assert RELAY not in caplog.text


def test_to_ask_without_a_secret_is_no_guess(serve: Serve) -> None:
    with serve() as url:
        for _ in range(WRONG_AT_MOST * 2):
            assert requests.get(f"{url}/messages/x", timeout=PATIENCE_S).status_code == 401


def from_(host: str) -> Request:
    return Request({"type": "http", "client": (host, 1), "headers": []})


def test_an_allowance_comes_back_after_its_window() -> None:
    now = [0.0]
    sources = SourceThrottle("secret", timer=lambda: now[0])
    for second in range(WRONG_AT_MOST):
        now[0] = float(second)
        sources.count_wrong(from_("192.0.2.1"))
    with pytest.raises(HTTPException) as refused:
        sources.count_wrong(from_("192.0.2.1"))
    assert refused.value.headers == {"Retry-After": str(int(WINDOW_S) - WRONG_AT_MOST + 1)}
    sources.check(from_("192.0.2.2"))
    now[0] = WINDOW_S + 1
    sources.check(from_("192.0.2.1"))


def test_sources_are_bounded_however_many_there_are() -> None:
    sources = SourceThrottle("secret")
    for n in range(MAX_SOURCES + 10):
        sources.count_wrong(from_(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"))
    assert len(sources._tallies) == MAX_SOURCES


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("what a proxy wrote\n", "no address"),
        ("", "no address"),
    ],
)
def test_a_source_is_an_address_or_the_network_of_one_customer(host: str, name: str) -> None:
    assert source_of(host) == name


# --- who is believed ------------------------------------------------------------------------


def test_reports_come_only_from_where_they_may(serve: Serve, client: redis.Redis) -> None:
    with serve(SMSQ_REPORT_ALLOW="192.0.2.0/24") as url:
        refused, wrong = report(url), report(url, "wrong-token-0123456789")
        assert refused.status_code == 404
        assert refused.content == wrong.content
        assert client.dbsize() == 0
    with serve(SMSQ_REPORT_ALLOW="192.0.2.0/24,127.0.0.1") as url:
        assert report(url).status_code == 200


def test_without_trusted_proxies_nobody_is_believed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with serve(SMSQ_REPORT_ALLOW="192.0.2.7") as url:
        assert report(url, forwarded="192.0.2.7").status_code == 404


def test_a_trusted_proxy_is_believed_and_those_before_it_are_not(serve: Serve) -> None:
    more = {"SMSQ_REPORT_ALLOW": "192.0.2.7", "SMSQ_TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.1"}
    with serve(**more) as url:
        assert report(url).status_code == 404
        for told in ("192.0.2.7", "1.1.1.1, 192.0.2.7", "192.0.2.7, 10.0.0.1", "192.0.2.7:5"):
            assert report(url, forwarded=told).status_code == 200
        for told in ("192.0.2.7, 1.1.1.1", "nonsense", ",", "192.0.2.8"):
            assert report(url, forwarded=told).status_code == 404


def test_a_trusted_proxy_is_believed_by_an_api_that_listens_on_ipv6_too(serve: Serve) -> None:
    more = {"SMSQ_REPORT_ALLOW": "192.0.2.7", "SMSQ_TRUSTED_PROXIES": "127.0.0.1"}
    with serve(both=True, **more) as url:
        assert report(url, forwarded="192.0.2.7").status_code == 200
        assert report(url, forwarded="192.0.2.8").status_code == 404


def test_behind_a_trusted_proxy_one_guesser_does_not_shut_out_another(serve: Serve) -> None:
    with serve(SMSQ_TRUSTED_PROXIES="127.0.0.1") as url:
        for _ in range(WRONG_AT_MOST + 1):
            question(url, "wrong", forwarded="192.0.2.1")
        assert question(url, RELAY, forwarded="192.0.2.1").status_code == 429
        assert question(url, RELAY, forwarded="192.0.2.2").status_code == 404


def test_a_proxy_that_is_not_trusted_is_not_believed(serve: Serve) -> None:
    more = {"SMSQ_REPORT_ALLOW": "192.0.2.7", "SMSQ_TRUSTED_PROXIES": "10.0.0.1"}
    with serve(**more) as url:
        assert report(url, forwarded="192.0.2.7").status_code == 404


# --- slow and endless clients ---------------------------------------------------------------


GET = b"GET /healthz HTTP/1.1\r\nHost: door\r\n"
BEGINNINGS = {
    "nothing": b"",
    "half-a-line": b"GET /hea",
    "half-a-head": GET + b"X-Slow: ",
    "blank-lines": b"\r\n\r\n",
    "after-an-answer": GET + b"\r\n",
    "half-a-head-after-an-answer": GET + b"\r\n" + GET,
    "blank-line-after-an-answer": GET + b"\r\n\r\n",
    "unread-body": GET + b"Content-Length: 10\r\n\r\n12",
    "upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


def test_a_head_that_does_not_come_closes_the_connection(serve: Serve) -> None:
    with serve(IMPATIENT) as url, ExitStack() as open_ones:
        slow = {name: open_ones.enter_context(connection(url)) for name in BEGINNINGS}
        for name, beginning in BEGINNINGS.items():
            slow[name].sendall(beginning)
            if beginning.startswith(GET) and b"\r\n\r\n" in beginning:
                assert slow[name].recv(65_536).startswith(b"HTTP/1.1 200 ")
                slow[name].sendall(b"G")  # which stops uvicorn's own timer
        for sock in slow.values():
            answer_of(sock)


def test_a_head_that_comes_byte_by_byte_closes_the_connection(serve: Serve) -> None:
    with serve(IMPATIENT) as url, connection(url) as slow:
        slow.settimeout(0.05)
        slow.sendall(GET + b"X-Slow: ")

        def closed() -> bool:
            try:
                slow.sendall(b"x")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        eventually(closed)


def test_a_connection_is_kept_between_requests(serve: Serve) -> None:
    with serve() as url, connection(url) as kept:
        for _ in range(3):
            kept.sendall(GET + b"\r\n")
            seen = b""
            while not seen.endswith(b"}"):
                seen += kept.recv(65_536)
            assert seen.startswith(b"HTTP/1.1 200 ")


def test_an_answer_is_not_held_back_for_an_acknowledgement(serve: Serve) -> None:
    class Watched(PATIENT):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            sock = transport.get_extra_info("socket")
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    options: list[int] = []
    with serve(Watched) as url:
        assert report(url).status_code == 200
    assert options
    assert all(options)


def head_of(size: int) -> bytes:
    return GET + b"X: " + b"x" * (size - len(GET) - len(b"X: \r\n\r\n")) + b"\r\n\r\n"


def test_a_head_of_16_kib_is_taken_and_a_longer_one_is_not(serve: Serve) -> None:
    with serve() as url:
        for size, status in ((MAX_HEAD, b"200"), (MAX_HEAD + 1, b"431")):
            head = head_of(size)
            assert len(head) == size
            with connection(url) as one:
                one.sendall(head)
                assert one.recv(65_536).startswith(b"HTTP/1.1 %s " % status)


def test_an_endless_head_is_refused_and_the_connection_is_closed(serve: Serve) -> None:
    with serve(IMPATIENT) as url, connection(url) as endless:
        endless.sendall(GET + b"X: " + b"x" * 200_000)
        head, _, body = answer_of(endless).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-content-type-options: nosniff" in head
    assert json.loads(body) == {
        "code": 431,
        "msg": "a request's head must have at most 16384 bytes",
    }


def test_an_answer_that_is_not_read_closes_the_connection(serve: Serve) -> None:
    with serve(served_by(LONG_S, SHORT_S)) as url, connection(url) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Their answers fill all buffers between here and there.
        deaf.sendall((GET + b"\r\n") * 5000)

        def cut_off() -> bool:
            try:
                deaf.sendall(b"G")
            except ConnectionError:
                return True
            return False

        eventually(cut_off)


def test_a_crowd_that_only_holds_connections_is_gone_after_the_heads_time(serve: Serve) -> None:
    with serve(IMPATIENT, bounds=Bounds(connections=200)) as url, ExitStack() as crowd:
        for n in range(1000):
            one = crowd.enter_context(connection(url))
            one.sendall(GET if n % 2 else b"")
        eventually(lambda: requests.get(f"{url}/healthz", timeout=PATIENCE_S).status_code == 200)
        assert report(url).status_code == 200


# --- on every answer ------------------------------------------------------------------------

EVERY = {
    "healthy": GET + b"\r\n",
    "unknown": b"GET /nowhere HTTP/1.1\r\nHost: door\r\n\r\n",
    "head": b"HEAD /nowhere HTTP/1.1\r\nHost: door\r\n\r\n",
    "method": b"DELETE / HTTP/1.1\r\nHost: door\r\n\r\n",
    "options": b"OPTIONS / HTTP/1.1\r\nHost: door\r\n\r\n",
    "head-of-the-relay": b"HEAD / HTTP/1.1\r\nHost: door\r\nAuthorization: %s\r\n\r\n"
    % RELAY.encode(),
    "relay": b"GET / HTTP/1.1\r\nHost: door\r\n\r\n",
    "garbage": b"\x00\x01\xff\r\n\r\n",
    "too-long": GET + b"x" * 20_000,
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: door\r\n\r\n",
}


@pytest.mark.parametrize("request_", EVERY.values(), ids=EVERY)
def test_every_answer_has_the_headers_and_none_is_a_page(serve: Serve, request_: bytes) -> None:
    with serve() as url, connection(url) as sock:
        sock.sendall(request_)
        with HTTPResponse(sock, method=request_.split()[0].decode("latin-1")) as answer:
            answer.begin()
            body = answer.read()
    for name, value in HEADERS:
        assert answer.headers.get_all(name) == [value]
    assert "Server" not in answer.headers
    kind = answer.headers["Content-Type"]
    if kind == "application/json":
        assert not body or {"code", "msg"} <= json.loads(body).keys()
    else:
        assert (kind, body[:6]) == (metrics.CONTENT_TYPE, b"# HELP")


def test_other_methods_are_told_which_there_are(serve: Serve, client: redis.Redis) -> None:
    with serve() as url:
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"):
            answer = requests.request(
                method,
                f"{url}/?{bare()}",
                headers={"Authorization": RELAY},
                timeout=PATIENCE_S,
            )
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert client.exists(keys.TIMERS) == 0


def test_a_bug_is_told_without_a_trace(
    serve: Serve, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.hset(keys.message("x"), "lane", "otp")  # what smsq never writes: no state
    with serve() as url:
        answer = question(url, RELAY)
    assert (answer.status_code, answer.json()) == (500, {"code": 500, "msg": "internal error"})
    assert "the API has a bug: KeyError" in caplog.messages
