"""The gateway's client over real sockets: what it sends, and that every failure has one outcome."""

from __future__ import annotations

import gzip
import http.client
import inspect
import logging
import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests.exceptions
import tenacity
import trustme
import urllib3.exceptions
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from harness import raw_server
from harness.certificates import certified
from harness.gateways import gateway_at
from harness.raw_server import (
    SOON_S,
    Request,
    Script,
    Server,
    dribbles,
    is_silent,
    refusing,
    resets,
    says,
    talks_for_ever,
    unanswering,
)
from harness.waiting import eventually
from smsq_worker.config.gateway_address import TRIES, Address
from smsq_worker.domain.states import Outcome
from smsq_worker.infra import adapter, answer
from smsq_worker.infra.answer import MAX_ANSWER
from smsq_worker.vendors import client
from smsq_worker.vendors.client import Gateway, NotConnected
from smsq_worker.vendors.vendor import GatewayResult

if TYPE_CHECKING:
    from pathlib import Path

PHONE = "13800138000"
TEMPLATE = "验证码 {code} & 勿告他人 #1+1"
CODE = "482913"
SECRET = "Basic c2VjcmV0: =/+ q"
MID = "1151894566D2EDD9"
# Only a fault reaches it.
PATIENCE_S = 30.0

GOOD = b'{"code": 200, "msg": "ok", "mid": "%s"}' % MID.encode()


def http_answer(body: bytes = GOOD, *headers: str, status: str = "200 OK") -> bytes:
    return raw_server.http_answer(body, *headers, status=status)


# --- the client under test ------------------------------------------------------------------


@contextmanager
def gateway(url: str, **changes: Any) -> Iterator[Gateway]:
    """Give a client that does not pause between its tries."""
    patient = {"connect_timeout_s": PATIENCE_S, "read_timeout_s": PATIENCE_S, "connections": 8}
    made = gateway_at(Address(url, SECRET, **(patient | changes)))
    made._retrying = made._retrying.copy(wait=tenacity.wait_none())
    try:
        yield made
    finally:
        made.close()


def send(made: Gateway, code: str = CODE) -> GatewayResult:
    return made.submit(PHONE, TEMPLATE, code)


def count_tries(made: Gateway, fail: Callable[[int], None] = lambda _: None) -> list[str]:
    """Note the host of each try to connect; `fail` is given the try's number and may raise."""
    tries: list[str] = []

    real = made._adapter._connect

    def counting() -> Any:
        tries.append(made._adapter._host)
        fail(len(tries))
        return real()

    made._adapter._connect = counting
    return tries


def assert_not_connected(call: GatewayResult, detail: str) -> None:
    assert call == GatewayResult(Outcome.NOT_SENT, call.detail, connected=False, trouble=True)
    assert re.fullmatch(detail, call.detail)


def in_doubt(detail: str) -> GatewayResult:
    return GatewayResult(Outcome.MAYBE_SENT, detail, trouble=True)


def assert_hidden(shown: str, *private: str) -> None:
    for text in (SECRET, PHONE, PHONE[3:], *private):
        assert text not in shown


# --- the request ----------------------------------------------------------------------------


def test_the_request_is_the_documented_one_to_the_letter() -> None:
    with Server(says(http_answer())) as server, gateway(server.url) as made:
        assert send(made) == GatewayResult(Outcome.ACCEPTED, "", MID)
    (request,) = server.requests
    assert request.line == (
        "GET /?module=sms&file=send&action=send&mobphone=13800138000&code=482913&smstemplate="
        "%E9%AA%8C%E8%AF%81%E7%A0%81+%7Bcode%7D+%26+%E5%8B%BF%E5%91%8A%E4%BB%96%E4%BA%BA+%231%2B1"
        " HTTP/1.1"
    )


def test_the_headers_are_these_and_no_others() -> None:
    with Server(says(http_answer())) as server, gateway(server.url) as made:
        send(made)
    (request,) = server.requests
    assert sorted(request.headers) == [
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Authorization", SECRET),
        ("Host", urlsplit(server.url).netloc),
        ("User-Agent", "smsq"),
    ]


@pytest.mark.parametrize(
    ("path", "on_the_wire"),
    [
        pytest.param("", "/", id="no path"),
        pytest.param("/", "/", id="root"),
        pytest.param("/sms/v2", "/sms/v2", id="a path"),
        pytest.param("/sms/v2/", "/sms/v2/", id="a path with a slash"),
        pytest.param("/短信/a b", "/%E7%9F%AD%E4%BF%A1/a%20b", id="a path to be encoded"),
        pytest.param("/a%2Fb", "/a%2Fb", id="a path that is encoded"),
    ],
)
def test_the_gateways_url_may_have_a_path(path: str, on_the_wire: str) -> None:
    with (
        Server(says(http_answer())) as server,
        gateway(server.url.removesuffix("/") + path) as made,
    ):
        assert send(made).outcome is Outcome.ACCEPTED
    assert server.requests[0].target.startswith(f"{on_the_wire}?module=sms&file=send&action=send&")


def test_every_code_and_template_arrive_as_they_are() -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    hard = st.sampled_from(["&", "=", "+", "#", "%", "%41", "/..", ";", "?", "\r\n", "\0", "验证"])

    with Server(says(http_answer())) as server, gateway(server.url) as made:

        @hypothesis_settings(max_examples=60)
        @given(template=text | hard, code=text | hard)
        def every(template: str, code: str) -> None:
            made.submit(PHONE, template, code)
            assert server.requests[-1].query == [
                ("module", "sms"),
                ("file", "send"),
                ("action", "send"),
                ("mobphone", PHONE),
                ("code", code),
                ("smstemplate", template),
            ]

        every()
    assert server.connections == 1


def test_several_calls_share_one_connection() -> None:
    with Server(says(http_answer())) as server, gateway(server.url) as made:
        outcomes = {send(made).outcome for _ in range(5)}
    assert outcomes == {Outcome.ACCEPTED}
    assert (len(server.requests), server.connections) == (5, 1)


def test_many_threads_share_as_many_connections_and_each_gets_its_own_answer() -> None:
    def echo(sock: socket.socket, request: Request) -> bool:
        code = dict(request.query)["code"].encode()
        sock.sendall(http_answer(b'{"code": 200, "mid": "M%s"}' % code))
        return True

    codes = [str(number) for number in range(200)]
    with (
        Server(echo) as server,
        gateway(server.url) as made,
        ThreadPoolExecutor(8) as threads,
    ):
        calls = list(threads.map(lambda code: send(made, code), codes))
    assert [call.mid for call in calls] == [f"M{code}" for code in codes]
    assert len(server.requests) == 200
    assert server.connections <= 8


def test_an_idle_connection_that_the_server_closed_is_replaced() -> None:
    with Server(says(http_answer(), keep=False)) as server, gateway(server.url) as made:
        send(made)
        assert server.ended.acquire(timeout=PATIENCE_S)
        assert send(made).outcome is Outcome.ACCEPTED
    assert [request.connection for request in server.requests] == [1, 2]


def test_neither_proxies_nor_a_netrc_nor_cookies_have_a_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    sets_a_cookie = says(http_answer(GOOD, "Set-Cookie: a=b; Path=/"))
    with (
        Server(says(http_answer())) as proxy,
        Server(sets_a_cookie) as server,
        gateway(server.url) as made,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        send(made)
        send(made)
    assert (proxy.connections, len(server.requests)) == (0, 2)
    for request in server.requests:
        assert ("Authorization", SECRET) in request.headers
        assert "cookie" not in {name.lower() for name, _ in request.headers}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 Other", "307 Same", "308 Same"])
def test_a_redirect_is_not_followed_and_the_secret_goes_nowhere_else(status: str) -> None:
    with Server(says(http_answer())) as elsewhere:
        moved = http_answer(b"", f"Location: {elsewhere.url}", status=status)
        with Server(says(moved)) as server, gateway(server.url) as made:
            call = send(made)
    assert call == in_doubt(f"unreadable answer, http {status[:3]}")
    assert (len(server.requests), elsewhere.connections) == (1, 0)


# --- TLS ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return certified(authority, "127.0.0.1")


def test_a_certificate_of_the_bundles_authority_is_good(tls: ssl.SSLContext, bundle: str) -> None:
    with (
        Server(says(http_answer()), tls) as server,
        gateway(server.url, verify=bundle) as made,
    ):
        calls = [send(made), send(made)]
    assert calls == [GatewayResult(Outcome.ACCEPTED, "", MID)] * 2
    assert (len(server.requests), server.connections) == (2, 1)


def test_by_default_an_unknown_authority_is_refused_before_anything_is_sent(
    tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, bundle)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", bundle)
    with Server(says(http_answer()), tls) as server, gateway(server.url) as made:
        assert_not_connected(send(made), "SSLCertVerificationError|SSLError")
        eventually(lambda: server.connections == TRIES)
    assert server.requests == []


SEND_ONCE = f"""
import sys
from smsq_worker.config.gateway_address import Address
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.oneoc.vendor import OneOc
from smsq_worker.vendors.vendor import VendorOptions

url, secret = sys.argv[1:]
address = Address(url, secret, connect_timeout_s={PATIENCE_S}, read_timeout_s={PATIENCE_S})
call = Gateway(address, OneOc(VendorOptions(url, secret))).submit("{PHONE}", "SMS_1001", "{CODE}")
print(call.outcome, call.connected)
"""


@pytest.mark.parametrize(
    ("trusted", "told"), [(True, "accepted True"), (False, "not_sent False")], ids=["in", "not in"]
)
def test_by_default_the_systems_authorities_are_trusted(
    tls: ssl.SSLContext, bundle: str, tmp_path: Path, trusted: bool, told: str
) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SSL_CERT_")}
    nobody = tmp_path / "empty.pem"
    nobody.touch()
    environ = kept | {"SSL_CERT_FILE": bundle if trusted else str(nobody)}
    with Server(says(http_answer()), tls) as server:
        done = subprocess.run(
            [sys.executable, "-c", SEND_ONCE, server.url, SECRET],
            env=environ,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
    assert (done.stdout.strip(), done.stderr) == (told, "")
    assert len(server.requests) == trusted


def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, bundle: str) -> None:
    other = certified(authority, "gateway.example")
    with (
        Server(says(http_answer()), other) as server,
        gateway(server.url, verify=bundle) as made,
    ):
        assert_not_connected(send(made), "SSLCertVerificationError|SSLError")
    assert server.requests == []


@pytest.mark.parametrize("name", ["127.0.0.1", "gateway.example"])
def test_without_verification_any_certificate_will_do_and_nothing_warns(
    name: str, authority: trustme.CA, recwarn: pytest.WarningsRecorder
) -> None:
    with (
        Server(says(http_answer()), certified(authority, name)) as server,
        gateway(server.url, verify=False) as made,
    ):
        calls = [send(made), send(made)]
    assert calls == [GatewayResult(Outcome.ACCEPTED, "", MID)] * 2
    assert server.connections == 1
    assert [str(warning.message) for warning in recwarn] == []


def test_a_bundle_that_has_gone_sends_nothing(tls: ssl.SSLContext, tmp_path: Path) -> None:
    with (
        Server(says(http_answer()), tls) as server,
        gateway(server.url, verify=str(tmp_path / "gone.pem")) as made,
    ):
        assert_not_connected(send(made), "OSError")
    assert server.connections == 0


def plain_http(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def reset_midway(sock: socket.socket) -> None:
    sock.recv(1)
    resets(sock, Request(0, b""))


@pytest.mark.parametrize(
    ("greet", "timeout_s"),
    [
        pytest.param(plain_http, PATIENCE_S, id="plain HTTP"),
        pytest.param(lambda sock: None, PATIENCE_S, id="an end"),
        pytest.param(lambda sock: sock.sendall(b"\x15\x03\x01\x00"), PATIENCE_S, id="half a word"),
        pytest.param(reset_midway, PATIENCE_S, id="a reset"),
        pytest.param(lambda sock: sock.makefile("rb").read(), SOON_S, id="silence"),
    ],
)
def test_what_goes_wrong_in_the_handshake_sent_nothing(
    greet: Callable[[socket.socket], None], timeout_s: float, bundle: str
) -> None:
    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.server.enter(self.request)
            greet(self.request)

    with Server(says()) as server:
        server.RequestHandlerClass = Greeting
        url = server.url.replace("http:", "https:")
        with gateway(url, verify=bundle, connect_timeout_s=timeout_s) as made:
            assert_not_connected(send(made), "[A-Za-z]*(Error|Timeout|Reset)[A-Za-z]*")
            eventually(lambda: server.connections == TRIES)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(keep=False), id="ends the connection"),
        pytest.param(resets, id="resets the connection"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), id="breaks off"),
    ],
)
def test_what_goes_wrong_in_tls_after_the_request_may_have_been_sent(
    script: Script, tls: ssl.SSLContext, bundle: str
) -> None:
    ends = script if script is resets else lambda *given: script(*given) and False
    with Server(ends, tls) as server, gateway(server.url, verify=bundle) as made:
        call = send(made)
    assert call == in_doubt(call.detail)
    assert len(server.requests) == 1


# --- no connection: nothing was sent, so it is tried again ----------------------------------


@contextmanager
def nameless() -> Iterator[str]:
    yield "http://gateway.invalid/"


@contextmanager
def overlong() -> Iterator[str]:
    yield f"http://{'a' * 70}.invalid/"


@pytest.mark.parametrize(
    ("place", "timeout_s", "detail"),
    [
        pytest.param(refusing, PATIENCE_S, "ConnectionRefusedError", id="a refused port"),
        pytest.param(unanswering, SOON_S, "TimeoutError", id="no answer to the connection"),
        pytest.param(nameless, PATIENCE_S, "NameResolutionError", id="an unknown name"),
        pytest.param(overlong, PATIENCE_S, "[A-Za-z]+", id="a name that cannot be"),
    ],
)
def test_without_a_connection_nothing_was_sent_and_it_is_tried_a_few_times(
    place: Callable[[], Any], timeout_s: float, detail: str
) -> None:
    with place() as url, gateway(url, connect_timeout_s=timeout_s) as made:
        tries = count_tries(made)
        assert_not_connected(send(made), detail)
    assert len(tries) == TRIES


def test_the_send_time_is_awaited_over_the_open_connection_before_anything_is_sent() -> None:
    seen: list[tuple[int, int]] = []
    with Server(says(http_answer())) as server, gateway(server.url) as made:

        def wait() -> None:
            eventually(lambda: server.connections == 1)
            seen.append((server.connections, len(server.requests)))

        for _ in range(2):
            assert made.submit(PHONE, TEMPLATE, CODE, wait=wait).outcome is Outcome.ACCEPTED
        assert send(made).outcome is Outcome.ACCEPTED
    assert seen == [(1, 0), (1, 1)]


def test_without_a_connection_no_send_time_is_awaited() -> None:
    waits: list[str] = []
    with refusing() as url, gateway(url) as made:
        made.submit(PHONE, TEMPLATE, CODE, wait=lambda: waits.append("waits"))
    assert not waits


def test_the_tries_have_pauses_between_them_that_grow() -> None:
    pauses: list[float] = []
    with refusing() as url, gateway(url) as made:
        real = gateway_at(made._address)
        real._retrying = real._retrying.copy(sleep=pauses.append)
        send(real)
        real.close()
    assert len(pauses) == TRIES - 1
    assert all(0.1 <= pause <= client.MAX_PAUSE_S for pause in pauses)
    assert pauses == sorted(pauses)


def test_a_connection_that_comes_about_at_the_last_try_carries_the_message_once() -> None:
    def fail(number: int) -> None:
        if number < TRIES:
            raise OSError

    with Server(says(http_answer())) as server, gateway(server.url) as made:
        tries = count_tries(made, fail)
        assert send(made) == GatewayResult(Outcome.ACCEPTED, "", MID)
    assert (len(tries), len(server.requests)) == (TRIES, 1)


def test_a_calls_bound_counts_the_handshake_too() -> None:
    address = Address("https://gateway.example", SECRET, connect_timeout_s=10, read_timeout_s=1)
    connecting, writing, reading = TRIES * 10, 10, 1
    pauses = (TRIES - 1) * client.MAX_PAUSE_S
    assert address.longest_call_s == connecting + pauses + writing + reading


# --- a connection, and then trouble: it may have been sent, and is never tried again --------

OK = b"HTTP/1.1 200 OK\r\n"
ODD = OK + b"Content-Length: %d\r\nno header at all\r\n\r\n%s" % (len(GOOD), GOOD)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

TROUBLE = [
    pytest.param(says(keep=False), id="ends without a word"),
    pytest.param(resets, id="resets"),
    pytest.param(is_silent(), id="is silent"),
    pytest.param(says(b"HTTP/1.1 20", keep=False), id="breaks off in the status line"),
    pytest.param(says(OK + b"Content-Le", keep=False), id="breaks off in the headers"),
    pytest.param(is_silent(OK + b"Content-Le"), id="falls silent in the headers"),
    pytest.param(is_silent(OK + b"Content-Length: 50\r\n\r\n{"), id="falls silent in the body"),
    pytest.param(says(b"220 mail.example ESMTP\r\n", keep=False), id="speaks another protocol"),
    pytest.param(says(b"\x15\x03\x03\x00\x02\x02\x46", keep=False), id="speaks TLS"),
    pytest.param(says(b"HTTP/1.1 99 No\r\n\r\n", keep=False), id="has no status"),
    pytest.param(
        says(OK + b"Content-Length: 99\r\n\r\n" + GOOD[:20], keep=False), id="truncates the body"
    ),
    pytest.param(says(CHUNKED + b"zz\r\n" + GOOD, keep=False), id="sends a chunk of no size"),
    pytest.param(says(CHUNKED + b"-1\r\n" + GOOD, keep=False), id="sends a negative chunk"),
    pytest.param(says(CHUNKED + b"40\r\n" + GOOD[:20], keep=False), id="breaks off in a chunk"),
    pytest.param(is_silent(CHUNKED + b"40\r\n" + GOOD[:20]), id="falls silent in a chunk"),
    pytest.param(
        dribbles(OK, b"X: " + b"a" * 100 + b"\r\n", http_answer().split(b"\r\n", 1)[1]),
        id="dribbles the headers",
    ),
    pytest.param(
        dribbles(OK + b"Content-Length: %d\r\n\r\n" % (100 + len(GOOD)), b" " * 100, GOOD),
        id="dribbles the body",
    ),
    pytest.param(
        dribbles(CHUNKED, b"1\r\n \r\n" * 20, b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)),
        id="dribbles chunks",
    ),
    pytest.param(says(http_answer(b" " * MAX_ANSWER + GOOD)), id="says too much"),
    pytest.param(talks_for_ever, id="talks for ever"),
    pytest.param(says(http_answer(GOOD, "Content-Encoding: gzip")), id="sends gzip that is none"),
    pytest.param(
        says(http_answer(gzip.compress(b" " * 50_000_000 + GOOD, 1), "Content-Encoding: gzip")),
        id="sends gzip that swells",
    ),
    pytest.param(says(http_answer(GOOD, *["X: y"] * 200), keep=False), id="sends too many headers"),
    pytest.param(
        says(http_answer(GOOD, "X: " + "y" * 70_000), keep=False), id="sends too long a header"
    ),
    pytest.param(says(http_answer(GOOD, "Content-Length: 7"), keep=False), id="names two lengths"),
    pytest.param(says(http_answer(b"<html>busy</html>")), id="sends a page"),
    pytest.param(says(http_answer(b"")), id="sends nothing"),
    pytest.param(says(b"HTTP/1.1 103 Early Hints\r\n\r\n"), id="sends hints in advance"),
    pytest.param(says(b"HTTP/1.1 204 No Content\r\n\r\n"), id="has no content"),
    pytest.param(says(http_answer(GOOD, status="500 Oops")[:-3], keep=False), id="fails badly"),
]


@pytest.mark.parametrize("script", TROUBLE)
def test_after_a_connection_trouble_may_have_been_sent_and_is_not_tried_again(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        Server(script) as server,
        gateway(server.url, read_timeout_s=SOON_S) as made,
    ):
        call = send(made)
        eventually(lambda: server.requests)
    assert call == in_doubt(call.detail)
    assert re.fullmatch(
        "[A-Za-z]+|http 500|answer too long|unreadable answer, http [0-9]{3}", call.detail
    )
    assert (len(server.requests), server.connections) == (1, 1)
    assert_hidden(f"{call!r} {call} {caplog.text}", CODE)


def test_a_kept_connection_that_dies_under_a_request_is_not_tried_again() -> None:
    def once(sock: socket.socket, request: Request) -> bool:
        first = len(server.requests) == 1
        sock.sendall(http_answer() if first else b"")
        return first

    with Server(once) as server, gateway(server.url) as made:
        calls = [send(made), send(made)]
    assert calls == [GatewayResult(Outcome.ACCEPTED, "", MID), in_doubt(calls[1].detail)]
    assert [request.connection for request in server.requests] == [1, 1]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("429 Slow Down", GatewayResult(Outcome.NOT_SENT, "http 429", "", 7, too_fast=True)),
        (
            "503 Unavailable",
            GatewayResult(Outcome.NOT_SENT, "http 503", "", 7, too_fast=True, trouble=True),
        ),
        ("408 Timeout", GatewayResult(Outcome.NOT_SENT, "http 408", "", 7, trouble=True)),
        ("500 Oops", in_doubt("http 500")),
        ("502 Bad Gateway", in_doubt("http 502")),
        ("504 Gateway Timeout", in_doubt("http 504")),
        ("401 Unauthorized", GatewayResult(Outcome.REFUSED, "gateway:http-401", scope="account")),
        ("403 Forbidden", GatewayResult(Outcome.REFUSED, "gateway:http-403", scope="account")),
        ("404 Not Found", GatewayResult(Outcome.REFUSED, "gateway:http-404", scope="account")),
    ],
)
def test_an_answer_of_any_status_is_not_tried_again(status: str, expected: GatewayResult) -> None:
    page = http_answer(b"<html>no</html>", "Retry-After: 7", status=status)
    with Server(says(page)) as server, gateway(server.url) as made:
        assert send(made) == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(http_answer(gzip.compress(GOOD), "Content-Encoding: gzip")), id="gzip"),
        pytest.param(
            says(CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in GOOD), b"0\r\n\r\n"), id="chunks"
        ),
        pytest.param(says(OK + b"\r\n" + GOOD, keep=False), id="no length"),
        pytest.param(says(OK + b"Content-Length: x\r\n\r\n" + GOOD, keep=False), id="odd length"),
        pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD, keep=False), id="HTTP 1.0"),
        pytest.param(says(b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer()), id="100 before"),
        pytest.param(says(http_answer(GOOD, "Connection: close")), id="an end announced"),
        pytest.param(says(http_answer(GOOD.ljust(MAX_ANSWER))), id="just not too much"),
        pytest.param(says(ODD), id="a line that is no header"),
        pytest.param(says(http_answer(GOOD, status="500 Oops")), id="status 500 with a mid"),
        pytest.param(says(http_answer(GOOD, "Content-Type: text/html")), id="HTML by its type"),
    ],
)
def test_an_unusual_answer_is_understood_all_the_same(script: Script) -> None:
    with Server(script) as server, gateway(server.url) as made:
        assert send(made) == GatewayResult(Outcome.ACCEPTED, "", MID)
    assert len(server.requests) == 1


# --- an answer belongs to its own call ------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", id="hints in advance"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="another protocol"),
        pytest.param(OK + b"Content-Length: 99\r\n\r\n", id="an answer that is late"),
        pytest.param(OK + b"Content-Length: 999999\r\n\r\n" + b" " * 70_000, id="too much"),
    ],
)
def test_what_is_left_of_an_answer_is_not_taken_for_the_next_calls(first: bytes) -> None:
    def script(sock: socket.socket, request: Request) -> bool:
        late = [r.connection for r in server.requests].count(request.connection) > 1
        sock.sendall(http_answer(b'{"code": 200, "mid": "OTHER"}') if late else first)
        return True

    with Server(script) as server, gateway(server.url, read_timeout_s=SOON_S) as made:
        calls = [send(made), send(made)]
        eventually(lambda: len(server.requests) == 2)
    assert calls == [in_doubt(call.detail) for call in calls]
    # In any order: who gives up soon may be ahead of the thread that reads the request.
    assert sorted(request.connection for request in server.requests) == [1, 2]


# --- completeness ---------------------------------------------------------------------------


def exceptions_of(*modules: Any) -> list[type[Exception]]:
    found = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception)
    }
    return sorted(found, key=lambda kind: (kind.__module__, kind.__qualname__))


FOREIGN = exceptions_of(requests.exceptions, urllib3.exceptions, http.client, ssl, socket)
OTHERS = [
    AttributeError,
    ConnectionResetError,
    EOFError,
    IndexError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TimeoutError,
    TypeError,
    UnicodeDecodeError,
    UnicodeEncodeError,
    ValueError,
    ssl.SSLError,
    tenacity.RetryError,
    tenacity.TryAgain,
]
EVERY = [
    pytest.param(kind, id=f"{kind.__module__}.{kind.__qualname__}")
    for kind in dict.fromkeys([*FOREIGN, *OTHERS])
]


def bare(kind: type[Exception]) -> Exception:
    """Make one without asking what arguments it wants."""
    return kind.__new__(kind)


def test_the_list_of_exceptions_holds_what_it_should() -> None:
    wanted = {
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.InvalidURL,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.InsecureRequestWarning,
        urllib3.exceptions.MaxRetryError,
        http.client.HTTPException,
        http.client.BadStatusLine,
        ssl.SSLError,
        ssl.SSLEOFError,
        OSError,
        UnicodeEncodeError,
        RuntimeError,
    }
    assert wanted <= {param.values[0] for param in EVERY}
    assert len(EVERY) > 80


@pytest.mark.parametrize("kind", EVERY)
def test_whatever_goes_wrong_in_connecting_sent_nothing(kind: type[Exception]) -> None:
    def fail(_: int) -> None:
        raise bare(kind)

    for scheme in ("http", "https"):
        with gateway(f"{scheme}://gateway.invalid/") as made:
            tries = count_tries(made, fail)
            assert_not_connected(send(made), kind.__name__)
        assert len(tries) == TRIES


@pytest.mark.parametrize("kind", EVERY)
def test_whatever_the_adapter_raises_may_have_been_sent(kind: type[Exception]) -> None:
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise bare(kind)

    with gateway("http://gateway.invalid/") as made:
        made._adapter.send = fail
        assert send(made) == in_doubt(kind.__name__)
    assert len(calls) == 1


def name_since_release_0_1_0(kind: type[Exception]) -> str:
    """Return what an attempt's detail calls an error of the connection: as requests does."""
    if issubclass(kind, TimeoutError | BlockingIOError):
        return "ReadTimeout"
    if issubclass(kind, ssl.SSLError):
        return "SSLError"
    return "ConnectionError" if issubclass(kind, OSError | HTTPException) else kind.__name__


@pytest.mark.parametrize("kind", EVERY)
def test_whatever_is_raised_before_an_answer_may_have_been_sent(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise bare(kind)

    monkeypatch.setattr(adapter, "read_answer", fail)
    with Server(says(http_answer())) as server, gateway(server.url) as made:
        assert send(made) == in_doubt(name_since_release_0_1_0(kind))
        assert not made._adapter._idle
        eventually(lambda: server.connections == 1)


@pytest.mark.parametrize("kind", EVERY)
def test_whatever_is_raised_while_reading_may_have_been_sent(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        status = 200
        headers: dict[str, str] = {}  # noqa: RUF012
        chunked = True
        closed = False

        def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
            yield GOOD[:20]
            raise bare(kind)

        def close(self) -> None:
            self.closed = True

    read = Answer()
    monkeypatch.setattr(answer, "HTTPResponse", lambda *_, **__: read)
    odd = CHUNKED + b"zz\r\n"
    with Server(says(odd, keep=False)) as server, gateway(server.url) as made:
        call = send(made)
        assert not made._adapter._idle
    assert call == in_doubt(kind.__name__)
    assert read.closed


def test_only_not_connected_says_that_nothing_was_sent() -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NotConnected("SomeError")

    with gateway("http://gateway.invalid/") as made:
        made._adapter.send = fail
        assert_not_connected(send(made), "SomeError")
    assert not any(issubclass(param.values[0], NotConnected) for param in EVERY)


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(("138", "模板", "\ud800"), id="half a surrogate pair"),
        pytest.param(("", "", ""), id="nothing"),
        pytest.param(("\r\nX: y", "\0", "\x7f"), id="control characters"),
        pytest.param(("1" * 100_000, "t", "c"), id="a number without end"),
    ],
)
def test_no_text_makes_it_raise(texts: tuple[str, str, str]) -> None:
    with Server(says(http_answer())) as server, gateway(server.url) as made:
        assert made.submit(*texts).outcome in set(Outcome)


# --- nothing leaks --------------------------------------------------------------------------


def test_an_address_does_not_show_its_secret() -> None:
    address = Address("https://gateway.example/", SECRET)
    assert_hidden(f"{address!r} {address}")
    assert "gateway.example" in repr(address)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(CODE, "验证码482913无效", id="a code of digits"),
        pytest.param("A1B2", "code A1B2 is bad", id="a code of letters"),
        pytest.param("A1B2", "code a1b2 is bad", id="a code in other letters"),
        pytest.param("7a", "变量7a过短", id="a short code"),
        pytest.param("张三&.*[", "变量 张三&.*[ 非法", id="a name as code"),
        pytest.param(CODE, "号码13800138000错误", id="the number"),
        pytest.param(CODE, "号码+8613800138000错误", id="the number with its country"),
        pytest.param(CODE, "号码138-0013-8000错误", id="the number in groups"),
        pytest.param(CODE, "号码 138 001 380 00 错误", id="the number in small groups"),
        pytest.param(CODE, f"AppSecret {SECRET} 无效", id="the secret"),
        pytest.param(CODE, "无" * 56 + CODE, id="a code where the text is cut"),
        pytest.param("ABCDEF", "无" * 57 + "ABCDEF", id="a word where the text is cut"),
    ],
)
def test_what_the_vendor_echoes_is_masked(code: str, message: str) -> None:
    answer = http_answer(f'{{"code": 400, "msg": "{message}"}}'.encode())
    with Server(says(answer)) as server, gateway(server.url) as made:
        call = send(made, code)
    assert call == GatewayResult(Outcome.REFUSED, call.detail)
    assert call.detail.startswith("gateway:400 ")
    assert "****" in call.detail or "无" * 56 in call.detail
    assert_hidden(f"{call!r} {call}", code, code.lower(), "ABC", "0013", "001 380", "4829")


@pytest.mark.parametrize("answer", [http_answer(), ODD], ids=["good", "odd headers"])
def test_no_log_shows_the_number_or_the_code(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        Server(says(answer)) as server,
        gateway(server.url) as made,
    ):
        call = send(made)
    assert "Starting new HTTP connection" in caplog.text
    assert_hidden(f"{call!r} {call} {caplog.text}", CODE, "smstemplate", "%E9%AA%8C", "验证码")


def test_neither_does_a_failure_to_connect(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), refusing() as url, gateway(url) as made:
        call = send(made)
    assert_hidden(f"{call!r} {call} {caplog.text}", CODE)


def test_other_users_of_urllib3_keep_their_log(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "urllib3.connectionpool"),
        Server(says(http_answer())) as server,
        gateway(server.url),
        requests.Session() as session,
    ):
        session.get(f"{server.url}?a=b", proxies={"http": ""})
    assert "GET /?a=b" in caplog.text
