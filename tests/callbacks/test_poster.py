"""POSTing outcomes over real sockets: where they may go, and that every failure is an answer."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import trustme

from harness.certificates import certified
from harness.raw_server import (
    SOON_S,
    Request,
    Script,
    Server,
    dribbles,
    http_answer,
    is_silent,
    refusing,
    resets,
    says,
    talks_for_ever,
    unanswering,
)
from harness.waiting import eventually
from smsq_worker.callbacks import poster, ssrf_guard
from smsq_worker.callbacks.poster import Posted, Poster
from smsq_worker.callbacks.ssrf_guard import is_public
from smsq_worker.infra.answer import MAX_ANSWER
from smsq_worker.infra.http import MAX_RETRY_AFTER_S
from smsq_worker.infra.resolver import MAX_ADDRESSES

if TYPE_CHECKING:
    from pathlib import Path

HERE = "127.0.0.1"
HOOKS = "hooks.example"
JSON = {"Content-Type": "application/json"}
BODY = '{"mid":"1","stat":"投递"}'.encode()
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_ALLOWED = Posted(done=False, detail="host not allowed", why="unreached")
NOT_PUBLIC = Posted(done=False, detail="address not public", why="unreached")
# Only a fault reaches it.
PATIENCE_S = 30.0


@contextmanager
def posting(*allowed: str, trusted: str = "", **changes: Any) -> Iterator[Callable[..., Posted]]:
    patient = {"connect_timeout_s": PATIENCE_S, "read_timeout_s": PATIENCE_S}
    made = Poster(frozenset(allowed), frozenset(filter(None, [trusted])), **(patient | changes))
    try:
        yield lambda url: made.post(url, JSON, BODY)
    finally:
        made.close()


def done(detail: str = "HTTP 200") -> Posted:
    return Posted(done=True, detail=detail)


class Names:
    """A resolver that knows some names, each with its answers in turn; the last one stays."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.known: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def look_up(self, host: str, *args: Any, **options: Any) -> list[Any]:
        if host not in self.known:
            return self._real(host, *args, **options)
        self.asked.append(host)
        answers = self.known[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for each in addresses for found in self._real(each, *args, **options)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    return made


@pytest.fixture
def here_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may need the Internet, so one address of this machine stands for it."""
    monkeypatch.setattr(ssrf_guard, "is_public", lambda address: address == HERE)


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Give a server's certificate for HOOKS that the system trusts."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return certified(authority, HOOKS)


def at(server: Server, host: str = HOOKS) -> str:
    return f"{'https' if server.tls else 'http'}://{host}:{server.server_address[1]}/in?to=7"


# --- the request and its answer -------------------------------------------------------------


def test_the_body_is_posted_as_it_is_with_these_headers_and_no_others() -> None:
    with Server(says(http_answer())) as server, posting(HERE) as post:
        assert post(f"{server.url}in/短信?token=a%2Fb&x=1") == done()
    (request,) = server.requests
    assert request.line == "POST /in/%E7%9F%AD%E4%BF%A1?token=a%2Fb&x=1 HTTP/1.1"
    assert request.body == BODY
    assert sorted(request.headers) == [
        ("Accept-Encoding", "identity"),
        ("Content-Length", str(len(BODY))),
        ("Content-Type", "application/json"),
        ("Host", urlsplit(server.url).netloc),
        ("User-Agent", "smsq"),
    ]


def test_a_user_in_the_url_becomes_the_authorization() -> None:
    with Server(says(http_answer())) as server, posting(HERE) as post:
        assert post(server.url.replace("//", "//me:p%40ss@")) == done()
    assert ("Authorization", "Basic bWU6cEBzcw==") in server.requests[0].headers


def test_neither_proxies_nor_a_netrc_nor_cookies_have_a_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with (
        Server(says(http_answer())) as proxy,
        Server(says(http_answer(b"", "Set-Cookie: a=b; Path=/"))) as server,
        posting(HERE) as post,
    ):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert [post(server.url), post(server.url)] == [done(), done()]
    assert (proxy.connections, len(server.requests)) == (0, 2)
    for request in server.requests:
        assert not {name.lower() for name, _ in request.headers} & {"authorization", "cookie"}


@pytest.mark.parametrize(
    ("status", "posted"),
    [
        ("200 OK", done()),
        ("202 Accepted", done("HTTP 202")),
        ("204 No Content", done("HTTP 204")),
        ("101 Switching Protocols", Posted(done=False, detail="HTTP 101")),
        ("304 Not Modified", Posted(done=False, detail="HTTP 304")),
        ("400 Bad", Posted(done=False, detail="HTTP 400")),
        ("404 Not Found", Posted(done=False, detail="HTTP 404")),
        ("410 Gone", Posted(done=False, detail="HTTP 410", gone=True)),
        ("500 Oops", Posted(done=False, detail="HTTP 500")),
        ("599 Oops", Posted(done=False, detail="HTTP 599")),
    ],
)
def test_2xx_is_a_yes_and_nothing_else(status: str, posted: Posted) -> None:
    answer = http_answer(b"" if status[:3] in {"204", "304"} else b"no", status=status)
    with Server(says(answer, keep=False)) as server, posting(HERE) as post:
        assert post(server.url) == posted


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with Server(says(http_answer())) as elsewhere:
        moved = http_answer(b"", f"Location: {elsewhere.url}", status=f"{status} Moved")
        with Server(says(moved)) as server, posting(HERE) as post:
            assert post(server.url) == Posted(done=False, detail=f"HTTP {status}")
    assert (len(server.requests), elsewhere.connections) == (1, 0)


def in_hours(hours: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)


@pytest.mark.parametrize(
    ("status", "told", "seconds"),
    [
        (429, "7", 7),
        (503, "7", 7),
        (503, "0", 0),
        pytest.param(503, "9" * 400, MAX_RETRY_AFTER_S, id="for ever"),
        pytest.param(503, in_hours(2), MAX_RETRY_AFTER_S, id="a date"),
        pytest.param(503, in_hours(-1), 0, id="a date in the past"),
        (503, "-7", 0),
        (503, "soon", 0),
        (503, "Sun, 99 Foo 2026 99:99:99 GMT", 0),
        (500, "7", 0),
        (200, "7", 0),
    ],
)
def test_a_busy_receiver_says_for_how_long(status: int, told: str, seconds: float) -> None:
    answer = http_answer(b"", f"Retry-After: {told}", status=f"{status} Said")
    with Server(says(answer)) as server, posting(HERE) as post:
        assert post(server.url).retry_after_s == seconds


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(keep=False), id="ends without a word"),
        pytest.param(resets, id="resets"),
        pytest.param(is_silent(), id="is silent"),
        pytest.param(is_silent(OK + b"Content-Le"), id="falls silent in the headers"),
        pytest.param(dribbles(OK, b"X: " + b"a" * 100, b"\r\n\r\n"), id="dribbles headers"),
        pytest.param(says(OK + b"X: y\r\n" * 200 + b"\r\n", keep=False), id="too many headers"),
        pytest.param(says(b"220 mail.example ESMTP\r\n", keep=False), id="another protocol"),
    ],
)
def test_trouble_before_the_answer_is_no_yes(script: Script) -> None:
    with Server(script) as server, posting(HERE, read_timeout_s=SOON_S) as post:
        posted = post(server.url)
        eventually(lambda: server.requests)
    assert posted == Posted(done=False, detail=posted.detail)
    assert re.fullmatch("[A-Za-z]+", posted.detail)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(is_silent(OK + b"Content-Length: 50\r\n\r\n{"), id="falls silent"),
        pytest.param(dribbles(OK + b"Content-Length: 999\r\n\r\n", b" " * 999, b""), id="dribbles"),
        pytest.param(says(OK + b"Content-Length: 99\r\n\r\n{", keep=False), id="is cut off"),
        pytest.param(says(CHUNKED + b"zz\r\n", keep=False), id="is no chunk"),
        pytest.param(talks_for_ever, id="never ends"),
    ],
)
def test_a_yes_stands_whatever_its_body_and_the_next_answer_is_not_mixed_with_it(
    script: Script,
) -> None:
    def first(sock: socket.socket, request: Request) -> object:
        return (script if len(server.requests) == 1 else says(http_answer(status="500 No")))(
            sock, request
        )

    # Long enough for the head of an answer to come, however busy the machine is.
    with Server(first) as server, posting(HERE, read_timeout_s=2) as post:
        assert [post(server.url), post(server.url)] == [
            done(),
            Posted(done=False, detail="HTTP 500"),
        ]
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http_answer(), id="empty"),
        pytest.param(http_answer(b"x" * MAX_ANSWER), id="just not too long"),
        pytest.param(CHUNKED + b"2\r\nok\r\n0\r\n\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="no content"),
        pytest.param(http_answer(b"x", "Content-Encoding: gzip"), id="gzip that is none"),
        pytest.param(http_answer(b"sorry", status="500 Oops"), id="a failure"),
    ],
)
def test_a_connection_is_kept_for_the_next(answer: bytes) -> None:
    with Server(says(answer)) as server, posting(HERE) as post:
        assert len({post(server.url) for _ in range(3)}) == 1
    assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http_answer(b"x" * 2 * MAX_ANSWER), id="too long"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="no HTTP follows"),
    ],
)
def test_a_connection_with_something_left_in_it_is_not(answer: bytes) -> None:
    with Server(says(answer)) as server, posting(HERE) as post:
        assert post(server.url) == post(server.url)
    assert sorted(request.connection for request in server.requests) == [1, 2]


def test_of_more_hosts_than_are_kept_those_used_last_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poster, "HOSTS", 2)
    with ExitStack() as stack, posting(HERE) as post:
        servers = [stack.enter_context(Server(says(http_answer()))) for _ in range(3)]
        for n in (0, 1, 0, 2, 0, 1):
            assert post(servers[n].url) == done()
        assert [server.connections for server in servers] == [1, 2, 1]
        assert servers[1].ended.acquire(timeout=PATIENCE_S)


def test_threads_share_a_poster() -> None:
    with (
        Server(says(http_answer())) as server,
        posting(HERE) as post,
        ThreadPoolExecutor(16) as threads,
    ):
        assert set(threads.map(post, [server.url] * 100)) == {done()}
    assert len(server.requests) == 100


@pytest.mark.parametrize(
    ("place", "timeout_s", "detail"),
    [
        (refusing, PATIENCE_S, "ConnectionRefusedError"),
        (unanswering, SOON_S, "TimeoutError"),
    ],
)
def test_without_a_connection_the_error_is_named(
    place: Callable[[], Any], timeout_s: float, detail: str
) -> None:
    with place() as url, posting(HERE, connect_timeout_s=timeout_s) as post:
        assert post(url) == Posted(done=False, detail=detail, why="unreached")


# --- where it may go ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        HERE,
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "hooks.example.evil.example",
        "evil.hooks.example",
        "hooks.example@127.0.0.1",
        "hooks.example:80@127.0.0.1",
        "127.0.0.1\\@hooks.example",
        "１２７.0.0.1",
        "",
    ],
)
def test_no_host_is_asked_that_is_not_named(host: str, names: Names) -> None:
    names.known[HOOKS] = [["192.0.2.1"]]
    with Server(says(http_answer())) as server, posting(trusted=HOOKS) as post:
        for scheme in ("http", "https"):
            posted = post(f"{scheme}://{host}:{server.server_address[1]}/")
            assert posted == Posted(done=False, detail=posted.detail, why=posted.why)
    assert (server.connections, names.asked) == (0, [])


def test_a_host_that_is_not_named_is_not_even_looked_up(names: Names) -> None:
    names.known["evil.example"] = [[HERE]]
    with posting(HOOKS, trusted="other.example") as post:
        assert post("https://evil.example/") == NOT_ALLOWED
        assert post("https://hooks.example@evil.example/") == NOT_ALLOWED
        assert post("https://evil.example\\@hooks.example/") == NOT_ALLOWED
    assert names.asked == []


@pytest.mark.parametrize(
    ("allowed", "written"),
    [
        (HOOKS, HOOKS),
        (HOOKS, "HOOKS.Example"),
        (HOOKS, "hooks.example."),
        ("Hooks.example.", HOOKS),
        ("短信.example", "短信.example"),
        ("短信.example", "xn--vuq298g.example"),
        ("xn--vuq298g.example", "短信.example"),
    ],
)
def test_a_host_may_be_written_in_several_ways(allowed: str, written: str, names: Names) -> None:
    names.known = {HOOKS: [[HERE]], "xn--vuq298g.example": [[HERE]]}
    with Server(says(http_answer())) as server, posting(allowed) as post:
        assert post(at(server, written)) == done()


@pytest.mark.parametrize(
    "url",
    ["", "hooks.example", "//hooks.example/", "ftp://hooks.example/", "file:///etc/passwd",
     "http://", "http://[::1", "http://hooks.example:99999/", f"http://{'a' * 70}.example/",
     "http://\0/", "gopher://hooks.example", "http://hooks.example:x/"],
)  # fmt: skip
def test_no_url_makes_it_raise(url: str) -> None:
    with posting(HOOKS) as post:
        posted = post(url)
    assert posted == Posted(done=False, detail=posted.detail, why=posted.why)
    assert re.fullmatch("host not allowed|(cannot be sent: )?[A-Za-z]+", posted.detail)


@pytest.mark.parametrize(
    ("headers", "user", "error"),
    [
        ({"X": "a\r\nB: c"}, "", "ValueError"),
        ({"webhook-id": "订单.failed"}, "", "UnicodeEncodeError"),
        ({}, "%E8%AE%A2:x@", "UnicodeEncodeError"),
    ],
    ids=["two lines", "not Latin-1", "a user not Latin-1"],
)
def test_what_no_header_can_hold_is_never_sent_and_no_fault_of_the_endpoints(
    headers: dict[str, str], user: str, error: str
) -> None:
    with Server(says(http_answer())) as server:
        url = server.url.replace("://", f"://{user}")
        posted = Poster(frozenset([HERE])).post(url, headers, BODY)
    detail = f"cannot be sent: {error}"
    assert posted == Posted(done=False, detail=detail, why="unsendable")
    assert server.connections == 0


PRIVATE = [
    "0.0.0.0",
    "10.0.0.7",
    "100.100.100.200",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:7",
    "64:ff9b::7f00:1",
    "64:ff9b:1::808:808",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_trusted_name_that_leads_to_no_public_address_is_refused(
    address: str, names: Names
) -> None:
    for answer in ([address], ["8.8.8.8", address], [address, "2606:4700::1111"]):
        names.known[HOOKS] = [answer]
        with posting(trusted=HOOKS) as post:
            assert post(f"https://{HOOKS}/") == NOT_PUBLIC


@pytest.mark.parametrize("literal", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "::1"])
def test_neither_is_a_trusted_host_that_is_such_an_address_itself(literal: str) -> None:
    host = f"[{literal}]" if ":" in literal else literal
    with posting(trusted=literal) as post:
        assert post(f"https://{host}/") == NOT_PUBLIC


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "223.5.5.5", "2606:4700::1111", "2400:3200::1", "64:ff9b::808:808"]
)
def test_the_internets_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.usefixtures("here_is_public")
def test_a_trusted_host_at_a_public_address_is_asked_over_tls(
    tls: ssl.SSLContext, names: Names
) -> None:
    names.known[HOOKS] = [[HERE]]
    asked_for: list[str | None] = []
    tls.sni_callback = lambda _, name, __: asked_for.append(name)
    with Server(says(http_answer()), tls) as server, posting(trusted=HOOKS) as post:
        assert post(at(server)) == done()
    assert asked_for == [HOOKS]
    assert ("Host", urlsplit(at(server)).netloc) in server.requests[0].headers


@pytest.mark.usefixtures("here_is_public")
def test_a_trusted_host_is_not_asked_over_plain_http(names: Names) -> None:
    names.known[HOOKS] = [[HERE]]
    with Server(says(http_answer())) as server, posting(trusted=HOOKS) as post:
        assert post(at(server)) == NOT_ALLOWED
    assert server.connections == 0


def test_an_allowed_host_may_be_private_though_it_is_trusted_too(
    tls: ssl.SSLContext, names: Names
) -> None:
    names.known[HOOKS] = [[HERE]]
    with Server(says(http_answer()), tls) as server, posting(HOOKS, trusted=HOOKS) as post:
        assert post(at(server)) == done()


@pytest.mark.usefixtures("here_is_public")
def test_a_name_is_looked_up_once_so_that_a_second_answer_cannot_rebind_it(
    tls: ssl.SSLContext, names: Names
) -> None:
    names.known[HOOKS] = [[HERE], ["::1"]]
    with Server(says(http_answer(), keep=False), tls) as server, posting(trusted=HOOKS) as post:
        assert post(at(server)) == done()
        assert names.asked == [HOOKS]
        assert server.ended.acquire(timeout=PATIENCE_S)
        # The next connection asks again, and judges again.
        assert post(at(server)) == NOT_PUBLIC
    assert len(server.requests) == 1


def test_the_next_address_is_tried_where_one_refuses(names: Names) -> None:
    names.known[HOOKS] = [["::1", HERE]]
    with Server(says(http_answer())) as server, posting(HOOKS) as post:
        assert post(at(server)) == done()


@pytest.mark.parametrize(
    ("before", "posted"),
    [
        (MAX_ADDRESSES - 1, done()),
        (MAX_ADDRESSES, Posted(done=False, detail="ConnectionRefusedError", why="unreached")),
    ],
)
def test_of_many_addresses_a_few_are_tried(before: int, posted: Posted, names: Names) -> None:
    with Server(says(http_answer())) as server, posting(HOOKS) as post:
        # It listens at one address of this machine; the others refuse.
        names.known[HOOKS] = [[*(f"127.0.0.{n + 2}" for n in range(before)), HERE]]
        assert post(at(server)) == posted


# --- TLS is verified ------------------------------------------------------------------------


def test_an_unknown_authority_is_refused_before_anything_is_sent(
    tls: ssl.SSLContext, names: Names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody.pem"
    nobody.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(nobody))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    names.known[HOOKS] = [[HERE]]
    with Server(says(http_answer()), tls) as server, posting(HOOKS) as post:
        posted = post(at(server))
    assert posted.detail in {"SSLCertVerificationError", "SSLError"}
    assert server.requests == []


@pytest.mark.usefixtures("tls")
def test_so_is_a_certificate_for_another_name(authority: trustme.CA, names: Names) -> None:
    names.known[HOOKS] = [[HERE]]
    other = certified(authority, HERE)
    with Server(says(http_answer()), other) as server, posting(HOOKS) as post:
        posted = post(at(server))
    assert posted.detail in {"SSLCertVerificationError", "SSLError"}
    assert server.requests == []


# --- nothing leaks --------------------------------------------------------------------------

ODD = OK + b"Content-Length: 0\r\nno header at all\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says(http_answer(b"secret-in-body")), id="good"),
        pytest.param(says(ODD), id="odd headers"),
        pytest.param(says(keep=False), id="trouble"),
        pytest.param(says(http_answer(b"secret-in-body", status="500 secret-word")), id="bad"),
    ],
)
def test_neither_logs_nor_details_show_the_url_or_the_answer(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        Server(script) as server,
        refusing() as closed,
        posting(HERE) as post,
    ):
        shown = [post(f"{url}secret-path?token=secret-token") for url in (server.url, closed)]
    assert "secret" not in f"{shown} {caplog.text}"
