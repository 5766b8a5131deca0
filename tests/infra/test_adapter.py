"""The adapter's connections over real sockets: which it keeps, and when a request is in doubt."""

from __future__ import annotations

import hashlib
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tenacity
import trustme
from cryptography import x509

from harness.certificates import certified
from harness.gateways import gateway_at
from harness.raw_server import (
    SOON_S,
    Request,
    Script,
    Server,
    dribbles,
    http_answer,
    is_silent,
    resets,
    says,
    unanswering,
)
from harness.waiting import eventually
from smsq.boottime import now_s
from smsq_worker.config.gateway_address import Address
from smsq_worker.domain.states import Outcome
from smsq_worker.infra import adapter
from smsq_worker.infra.adapter import Adapter
from smsq_worker.infra.http import NotConnected
from smsq_worker.infra.http import Request as Written
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.vendor import GatewayResult

NAME = "gateway.example"
PATIENCE_S = 30.0
GOOD = b'{"code": 200, "msg": "ok", "mid": "A1"}'
OTHER = http_answer(b'{"code": 200, "msg": "ok", "mid": "OTHER"}')
OK = b"HTTP/1.1 200 OK\r\n"
HEAD = OK + b"Content-Length: %d\r\n" % len(GOOD)
# A line that is no header, for which httptools gives up.
ODD = HEAD + b"no header at all\r\n\r\n" + GOOD
ACCEPTED = GatewayResult(Outcome.ACCEPTED, "", "A1")


@contextmanager
def gateway(url: str, **changes: Any) -> Iterator[Gateway]:
    patient = {"connect_timeout_s": PATIENCE_S, "read_timeout_s": PATIENCE_S, "connections": 8}
    made = gateway_at(Address(url, "secret", **(patient | changes)))
    made._retrying = made._retrying.copy(wait=tenacity.wait_none())
    try:
        yield made
    finally:
        made.close()


def send(made: Gateway, **options: Any) -> GatewayResult:
    return made.submit("13800138000", "SMS_1001", "482913", **options)


def in_doubt(detail: str) -> GatewayResult:
    return GatewayResult(Outcome.MAYBE_SENT, detail, trouble=True)


def idle(made: Gateway) -> list[socket.socket]:
    return [connection.sock for connection in made._adapter._idle]


def something_came(made: Gateway) -> bool:
    """Tell whether the idle connection has something to read: bytes, an end or an error."""
    (sock,) = idle(made)
    return bool(select.select([sock], [], [], 0)[0])


class Answering:
    """A script that gives good answers, and does something else after the first when it is told."""

    def __init__(self, act: Callable[[socket.socket], object]) -> None:
        self._act = act
        self._told = threading.Event()
        self._done = threading.Event()
        self._is_first = True

    def __call__(self, sock: socket.socket, _: Request) -> bool:
        is_first, self._is_first = self._is_first, False
        sock.sendall(http_answer(GOOD))
        if is_first:
            assert self._told.wait(PATIENCE_S)
            self._act(sock)
            self._done.set()
        return sock.fileno() >= 0

    def act(self) -> None:
        self._told.set()
        assert self._done.wait(PATIENCE_S)


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    return certified(authority, "127.0.0.1")


@pytest.fixture(params=["plain", "polled", "tls"])
def served(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> Callable[[Script], Server]:
    """Give servers of each kind of connection; `polled` is that of systems with other timevals."""

    def unsupported(*_: object) -> None:
        raise OSError

    if request.param == "polled":
        monkeypatch.setattr(adapter, "_KernelTimed", unsupported)
    return lambda script: Server(script, tls if request.param == "tls" else None)


# --- an idle connection that is dead is found before a request is written --------------------


def ends(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def ends_half(sock: socket.socket) -> None:
    # TLS, if any, goes on reading.
    socket.socket.shutdown(sock, socket.SHUT_WR)


def resets_it(sock: socket.socket) -> None:
    resets(sock, Request(0, b""))


def says_more(sock: socket.socket) -> None:
    sock.sendall(OTHER)


def says_408(sock: socket.socket) -> None:
    sock.sendall(http_answer(b"", "Connection: close", status="408 Request Timeout"))
    ends(sock)


def says_goodbye(sock: socket.socket) -> None:
    """Send what ends TLS, and keep the connection."""
    sock.settimeout(0)
    with suppress(ssl.SSLWantReadError):
        sock.unwrap()  # type: ignore[attr-defined]
    sock.settimeout(None)


EVENTS = [ends, ends_half, resets_it, says_more, says_408]


@pytest.mark.parametrize("happens", EVENTS)
def test_what_happened_to_an_idle_connection_is_seen_before_it_is_used(
    happens: Callable[[socket.socket], None], served: Callable[[Script], Server], bundle: str
) -> None:
    script = Answering(happens)
    with served(script) as server, gateway(server.url, verify=bundle) as made:
        assert send(made) == ACCEPTED
        script.act()
        eventually(lambda: something_came(made))
        assert [send(made), send(made)] == [ACCEPTED] * 2
    assert [request.connection for request in server.requests] == [1, 2, 2]


def test_a_goodbye_of_tls_is_an_end_though_the_connection_stays(
    tls: ssl.SSLContext, bundle: str
) -> None:
    script = Answering(says_goodbye)
    with Server(script, tls) as server, gateway(server.url, verify=bundle) as made:
        assert send(made) == ACCEPTED
        script.act()
        eventually(lambda: something_came(made))
        assert send(made) == ACCEPTED
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize("happens", EVENTS)
def test_so_it_is_if_it_happened_while_the_send_time_was_awaited(
    happens: Callable[[socket.socket], None], served: Callable[[Script], Server], bundle: str
) -> None:
    script, waits = Answering(happens), list[str]()

    def wait() -> None:
        waits.append("waits")
        began = time.monotonic()
        script.act()
        eventually(lambda: time.monotonic() - began > 2 * adapter.LOOK_AGAIN_S)

    with served(script) as server, gateway(server.url, verify=bundle) as made:
        assert send(made) == ACCEPTED
        assert send(made, wait=wait) == ACCEPTED
    assert waits == ["waits"]
    assert [request.connection for request in server.requests] == [1, 2]


def test_the_lease_is_looked_at_again_when_that_took_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = Answering(ends)
    lease_ends = now_s() + 2 * PATIENCE_S
    now = [now_s()]
    monkeypatch.setattr("smsq_worker.vendors.client.now_s", lambda: now[0])
    monkeypatch.setattr(adapter, "LOOK_AGAIN_S", 0.0)
    with Server(script) as server, gateway(server.url) as made:
        assert send(made) == ACCEPTED
        real = made._adapter._connect

        def slow() -> Any:
            now[0] += PATIENCE_S
            return real()

        monkeypatch.setattr(made._adapter, "_connect", slow)
        call = send(made, wait=script.act, lease_ends=lease_ends)
        assert call.outcome is Outcome.NOT_SENT
    assert len(server.requests) == 1


def test_a_new_connection_is_not_given_up_for_what_tls_says_to_itself(
    tls: ssl.SSLContext, bundle: str
) -> None:
    """Sessions' tickets come after the handshake, while the send time is awaited."""
    tls.minimum_version = ssl.TLSVersion.TLSv1_3

    def wait() -> None:
        before = time.monotonic()
        eventually(lambda: time.monotonic() - before > 0.05)

    with (
        Server(says(http_answer(GOOD)), tls) as server,
        gateway(server.url, verify=bundle) as made,
    ):
        assert [send(made, wait=wait), send(made, wait=wait)] == [ACCEPTED] * 2
    assert (server.connections, len(server.requests)) == (1, 2)


# --- a request of which nothing has left is not in doubt -------------------------------------


def test_where_not_one_byte_could_be_written_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapter, "LOOK_AGAIN_S", PATIENCE_S)
    script, waits = Answering(resets_it), list[str]()

    def wait() -> None:
        waits.append("waits")
        script.act()

    with Server(script) as server, gateway(server.url) as made:
        assert send(made) == ACCEPTED
        assert send(made, wait=wait) == ACCEPTED
    assert waits == ["waits"]
    assert [request.connection for request in server.requests] == [1, 2]


def test_where_tls_fails_to_write_it_is_in_doubt(
    tls: ssl.SSLContext, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LOOK_AGAIN_S", PATIENCE_S)
    script = Answering(resets_it)
    with Server(script, tls) as server, gateway(server.url, verify=bundle) as made:
        assert send(made) == ACCEPTED
        call = send(made, wait=script.act)
        assert call == in_doubt(call.detail)
        assert idle(made) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_request_that_was_written_in_part_is_in_doubt(is_reset: bool) -> None:
    """The server takes what its buffers hold, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1)
                if is_reset:
                    resets(sock, Request(0, b""))
                else:
                    gave_up.wait(PATIENCE_S)

        gave_up = threading.Event()
        server = threading.Thread(target=serve)
        server.start()
        with gateway(url, connect_timeout_s=PATIENCE_S if is_reset else SOON_S) as made:
            began = time.monotonic()
            call = made.submit("1" * 20_000_000, "SMS_1001", "482913")
            took_s = time.monotonic() - began
        gave_up.set()
        server.join()
    assert call == in_doubt("ConnectionError")
    assert took_s < PATIENCE_S / 2


def test_a_header_of_two_lines_is_refused_before_anything_is_connected() -> None:
    with Server(says(http_answer(GOOD))) as server:
        made = Adapter(
            server.url,
            connect_timeout_s=1,
            read_timeout_s=1,
            idle_timeout_s=1,
            connections=1,
        )
        for value in ("a\r\nB: c", "a\nB: c", "a\rb", "名"):
            with pytest.raises(NotConnected):
                made.send(Written("GET", f"{server.url}x", {"X": value}), ready=lambda: None)
    assert server.connections == 0


# --- an answer belongs to its request, and comes in time -------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(http_answer(GOOD) + OTHER, id="two answers"),
        pytest.param(http_answer(GOOD) + OTHER[:9], id="and the beginning of another"),
        pytest.param(http_answer(GOOD) + b"\0", id="and a byte"),
        pytest.param(
            OK + b"Content-Length: %d\r\n\r\n%s" % (len(GOOD), GOOD + b"}" * 9), id="a short length"
        ),
        pytest.param(http_answer(GOOD, "Connection: close") + OTHER, id="an end announced"),
        pytest.param(ODD + OTHER, id="read by http.client"),
        pytest.param(http_answer(GOOD, "Content-Encoding: identity") + b"\0", id="encoded"),
        pytest.param(HEAD + b"Connection: close\r\nno header\r\n\r\n" + GOOD, id="odd, and an end"),
    ],
)
def test_what_follows_an_answer_is_not_taken_for_the_next(
    first: bytes, served: Callable[[Script], Server], bundle: str
) -> None:
    with (
        served(says(first)) as server,
        gateway(server.url, verify=bundle) as made,
    ):
        assert [send(made), send(made)] == [ACCEPTED] * 2
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ODD, id="a line that is no header"),
        pytest.param(http_answer(GOOD, "Content-Encoding: identity"), id="an encoding"),
        pytest.param(http_answer(GOOD).replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(http_answer(GOOD.ljust(65_536)), id="a long body"),
        pytest.param(b"HTTP/1.1 102 So\r\n\r\n" + ODD, id="and an interim"),
        pytest.param(
            OK
            + b"Transfer-Encoding: chunked\r\nbad\r\n\r\n%x\r\n%s\r\n0\r\nX: y\r\n\r\n"
            % (len(GOOD), GOOD),
            id="chunks and a trailer",
        ),
    ],
)
def test_an_odd_answer_that_is_whole_leaves_its_connection_to_the_next(
    answer: bytes, served: Callable[[Script], Server], bundle: str
) -> None:
    with served(says(answer)) as server, gateway(server.url, verify=bundle) as made:
        assert [send(made) for _ in range(3)] == [ACCEPTED] * 3
    assert server.connections == 1


def test_an_answer_in_pieces_leaves_the_next_its_whole_time(
    served: Callable[[Script], Server], bundle: str
) -> None:
    def in_pieces(sock: socket.socket, _: Request) -> bool:
        if len(server.requests) == 3:
            return is_silent()(sock, _)  # type: ignore[func-returns-value]
        for byte in http_answer(GOOD):
            sock.sendall(bytes([byte]))
        return True

    with served(in_pieces) as server, gateway(server.url, verify=bundle, read_timeout_s=3) as made:
        assert [send(made), send(made)] == [ACCEPTED] * 2
        began = time.monotonic()
        assert send(made) == in_doubt("ReadTimeout")
        assert time.monotonic() - began > 2.9
        assert idle(made) == []
    assert server.connections == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(is_silent(), id="silent"),
        pytest.param(is_silent(OK + b"Content-Le"), id="silent in the head"),
        pytest.param(dribbles(OK, b"X: " + b"a" * 2000, b"\r\n\r\n"), id="dribbles the head"),
        pytest.param(
            dribbles(OK + b"Content-Length: 2000\r\n\r\n", b" " * 2000, b""), id="dribbles the body"
        ),
        pytest.param(
            dribbles(OK + b"Content-Length: 2000\r\nbad\r\n\r\n", b" " * 2000, b""), id="and is odd"
        ),
        pytest.param(
            dribbles(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 80, b""), id="dribbles hints"
        ),
    ],
)
def test_the_whole_answer_has_the_read_timeout(
    script: Script, served: Callable[[Script], Server], bundle: str
) -> None:
    with (
        served(script) as server,
        gateway(server.url, verify=bundle, read_timeout_s=SOON_S) as made,
    ):
        # At the server, what is dribbled takes twenty seconds.
        began = time.monotonic()
        call = send(made)
        took_s = time.monotonic() - began
    assert call == in_doubt(call.detail)
    assert "Timeout" in call.detail
    assert took_s < 10


def test_a_signal_while_an_answer_is_awaited_does_no_harm() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    result: list[GatewayResult] = []

    def interrupts(sock: socket.socket, _: Request) -> bool:
        assert caller.ident
        for number in range(5):
            signal.pthread_kill(caller.ident, signal.SIGUSR1)
            eventually(lambda number=number: len(came) > number)
        sock.sendall(http_answer(GOOD))
        return True

    try:
        with Server(interrupts) as server, gateway(server.url) as made:
            caller = threading.Thread(target=lambda: result.append(send(made)))
            caller.start()
            # The main thread runs the handlers.
            eventually(lambda: result)
            caller.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert result == [ACCEPTED]


# --- the pool --------------------------------------------------------------------------------


def test_no_more_idle_connections_are_kept_than_there_is_room_for() -> None:
    together = threading.Barrier(8)

    def script(sock: socket.socket, _: Request) -> bool:
        if len(server.requests) <= 8:
            together.wait(PATIENCE_S)
        sock.sendall(http_answer(GOOD))
        return True

    with Server(script) as server, gateway(server.url, connections=3) as made:
        with ThreadPoolExecutor(8) as threads:
            calls = list(threads.map(lambda _: send(made), range(8)))
        assert calls == [ACCEPTED] * 8
        assert len(idle(made)) == 3
        # The one used last is used next, so that the others' idle time comes to its end.
        last = idle(made)[-1]
        assert send(made) == ACCEPTED
        assert idle(made)[-1] is last
    assert server.connections == 8


def test_a_hundred_threads_share_it_and_each_gets_its_own_answer() -> None:
    def echo(sock: socket.socket, request: Request) -> bool:
        code = dict(request.query)["code"].encode()
        sock.sendall(http_answer(b'{"code": 200, "msg": "ok", "mid": "M%s"}' % code))
        return True

    codes = [str(number) for number in range(1000)]
    with (
        Server(echo) as server,
        gateway(server.url, connections=100) as made,
        ThreadPoolExecutor(128) as threads,
    ):
        calls = list(threads.map(lambda code: made.submit("13800138000", "t", code), codes))
        assert len(idle(made)) <= 100
    assert [call.mid for call in calls] == [f"M{code}" for code in codes]
    assert len(server.requests) == 1000


def test_what_is_in_use_when_the_gateway_is_closed_is_closed_after_it() -> None:
    with Server(says(http_answer(GOOD))) as server, gateway(server.url) as made:
        assert send(made, wait=made.close) == ACCEPTED
        assert idle(made) == []
        assert server.ended.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
def test_whatever_ends_the_wait_closes_the_connection(kind: type[BaseException]) -> None:
    def wait() -> None:
        raise kind

    with Server(says(http_answer(GOOD))) as server, gateway(server.url) as made:
        if issubclass(kind, Exception):
            assert send(made, wait=wait).outcome is Outcome.MAYBE_SENT
        else:
            with pytest.raises(kind):
                send(made, wait=wait)
        assert idle(made) == []
        assert server.ended.acquire(timeout=PATIENCE_S)
    assert server.requests == []


# --- where it connects -----------------------------------------------------------------------


class Server6(Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.server_address = ("::1", 0)
        super().server_bind()


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    with Server6(says(http_answer(GOOD))) as server:
        netloc = f"[::1]:{server.server_address[1]}"
        with gateway(f"http://{netloc}/") as made:
            assert [send(made), send(made)] == [ACCEPTED] * 2
    assert server.connections == 1
    assert ("Host", netloc) in server.requests[0].headers


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let each name have these addresses; give the names that are asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return [found for each in addresses for found in real(each, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_the_next_address_is_tried_where_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, "::1", "127.0.0.2", "127.0.0.1")
    with Server(says(http_answer(GOOD))) as server:
        netloc = f"{NAME}:{server.server_address[1]}"
        with gateway(f"http://{netloc}") as made:
            assert send(made) == ACCEPTED
    assert asked == [NAME]
    assert ("Host", netloc) in server.requests[0].headers


def test_the_port_of_the_scheme_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(says(http_answer(GOOD))) as server:
        port = server.server_address[1]
        real = adapter.connect
        asked: list[int] = []

        def connect(places: Any, number: int, *args: Any) -> socket.socket:
            asked.append(number)
            return real(places, port, *args)

        monkeypatch.setattr(adapter, "connect", connect)
        with gateway("http://127.0.0.1/") as made:
            assert send(made) == ACCEPTED
    assert asked == [80]
    assert ("Host", "127.0.0.1") in server.requests[0].headers


def test_connecting_has_one_timeout_for_all_of_it(tls: ssl.SSLContext, bundle: str) -> None:
    """A server that accepts and then dribbles its handshake."""

    def dribbling(url: str) -> None:
        with gateway(url, verify=bundle, connect_timeout_s=SOON_S) as made:
            began = time.monotonic()
            call = send(made)
            assert (call.outcome, call.connected) == (Outcome.NOT_SENT, False)
            # Three tries.
            assert time.monotonic() - began < 10

    with unanswering() as url:
        dribbling(url)
        dribbling(url.replace("http:", "https:"))
    with Server(says()) as server:
        record = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb" + b"x" * 2000

        class Dribbling(server.RequestHandlerClass):  # type: ignore[name-defined,misc]
            def handle(self) -> None:
                self.server.enter(self.request)
                with suppress(OSError):
                    for byte in record:
                        self.request.sendall(bytes([byte]))
                        time.sleep(SOON_S / 20)

        server.RequestHandlerClass = Dribbling
        dribbling(server.url.replace("http:", "https:"))


# --- TLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dot", ["", "."])
def test_a_name_is_told_to_the_server_and_checked(
    dot: str, authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    context = certified(authority, NAME)
    told: list[str | None] = []
    context.sni_callback = lambda _, name, __: told.append(name)
    with Server(says(http_answer(GOOD)), context) as server:
        port = server.server_address[1]
        with gateway(f"https://{NAME}{dot}:{port}/", verify=bundle) as made:
            assert [send(made), send(made)] == [ACCEPTED] * 2
    assert told == [NAME]
    assert ("Host", f"{NAME}:{port}") in server.requests[0].headers


@pytest.mark.parametrize("verify", [True, False])
def test_a_certificate_that_has_expired_is_refused_unless_none_is_verified(
    verify: bool, authority: trustme.CA, bundle: str
) -> None:
    expired = certified(authority, "127.0.0.1", days=-1)
    with (
        Server(says(http_answer(GOOD)), expired) as server,
        gateway(server.url, verify=bundle if verify else False) as made,
    ):
        call = send(made)
    assert call.outcome is (Outcome.NOT_SENT if verify else Outcome.ACCEPTED)
    assert len(server.requests) == (0 if verify else 1)


def subject_hash(pem: bytes) -> str:
    """Return by what OpenSSL finds an authority in a folder."""
    subject = x509.load_pem_x509_certificate(pem).subject
    name = subject.public_bytes()
    for attribute in subject:
        text = str(attribute.value)
        name = name.replace(text.encode(), text.lower().encode())
    # Without the head of the sequence.
    return f"{int.from_bytes(hashlib.sha1(name[2:]).digest()[:4], 'little'):08x}"


@pytest.mark.parametrize("is_known", [True, False])
def test_authorities_may_be_a_folder(
    is_known: bool, authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    pem = authority.cert_pem.bytes()
    if is_known:
        (tmp_path / f"{subject_hash(pem)}.0").write_bytes(pem)
    with (
        Server(says(http_answer(GOOD)), tls) as server,
        gateway(server.url, verify=str(tmp_path)) as made,
    ):
        call = send(made)
    assert call.outcome is (Outcome.ACCEPTED if is_known else Outcome.NOT_SENT)
    assert len(server.requests) == is_known


def test_a_bundle_that_is_replaced_counts_from_the_next_connection(
    authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    with (
        Server(says(http_answer(GOOD)), tls) as server,
        gateway(server.url, verify=str(path)) as made,
    ):
        assert send(made).outcome is Outcome.NOT_SENT
        authority.cert_pem.write_to_path(str(path))
        assert send(made) == ACCEPTED
        path.write_text("nonsense")
        # It is over the connection that is open.
        assert send(made) == ACCEPTED
        made._adapter._idle.pop().sock.close()
        assert (send(made).outcome, send(made).detail) == (Outcome.NOT_SENT, "SSLError")
    assert len(server.requests) == 2


def test_a_request_may_have_a_body() -> None:
    with Server(says(http_answer(b"yes"))) as server:
        made = Adapter(
            server.url,
            connect_timeout_s=PATIENCE_S,
            read_timeout_s=PATIENCE_S,
            idle_timeout_s=PATIENCE_S,
            connections=1,
        )
        request = Written("POST", f"{server.url}in", {}, b"body")
        response = made.send(request, ready=lambda: None)
        made.close()
    assert (response.status_code, response.content) == (200, b"yes")
    assert response.headers["content-LENGTH"] == "3"
    (got,) = server.requests
    assert (got.line, got.body) == ("POST /in HTTP/1.1", b"body")
    assert ("Host", urlsplit(server.url).netloc) in got.headers
