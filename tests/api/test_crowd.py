"""Who gives way where connections are many, and who finds room where requests are."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
import redis

from harness.api import (
    PATIENCE_S,
    REPORT,
    Serve,
    answer_of,
    connection,
    inbox,
)
from harness.api_requests import PLAIN
from harness.credentials import RELAY, TOKEN
from smsq_worker.api.crowd import Bounds, Crowd
from smsq_worker.api.room import Share

OTHER = "127.0.0.2"
"""Another source, as seen from an API on this machine."""


@dataclass(eq=False)
class Idle:
    """A connection that notes whether it has given way."""

    idle_since: float
    is_busy: bool = False
    gone: bool = field(default=False)

    def give_way(self) -> None:
        self.gone = True


def entered(crowd: Crowd, host: str, *connections: Idle) -> list[bool]:
    return [crowd.enter(one, host) for one in connections]


def gone(*connections: Idle) -> list[bool]:
    return [one.gone for one in connections]


def test_of_a_peer_with_its_share_the_oldest_idle_one_gives_way() -> None:
    crowd = Crowd(Bounds(connections=100, of_peer=3, grace_s=10), (), timer=lambda: 12.0)
    busy, young, old, new = Idle(0, is_busy=True), Idle(3), Idle(2), Idle(4)
    assert entered(crowd, "192.0.2.1", busy, young, old, new) == [True] * 4
    assert gone(busy, young, old, new) == [False, False, True, False]
    assert len(crowd._of) == 3
    assert entered(crowd, "192.0.2.1", Idle(5), Idle(6)) == [True] * 2  # they are kept for a while
    assert gone(busy, young, new) == [False] * 3


def test_a_peer_whose_requests_are_all_under_way_is_let_in() -> None:
    crowd = Crowd(Bounds(connections=100, of_peer=2), ())
    assert entered(crowd, "192.0.2.1", *(Idle(n, is_busy=True) for n in range(5))) == [True] * 5


def test_in_a_full_house_the_greediest_gives_way() -> None:
    crowd = Crowd(Bounds(connections=5, of_peer=100), ())
    few, many = [Idle(0), Idle(1)], [Idle(2), Idle(3), Idle(4)]
    assert all(entered(crowd, "192.0.2.1", *few) + entered(crowd, "192.0.2.2", *many))
    assert crowd.enter(Idle(5), "192.0.2.3")
    assert gone(*few, *many) == [False, False, True, False, False]
    assert len(crowd._of) == 5


def test_where_the_greediest_is_busy_the_next_gives_way() -> None:
    crowd = Crowd(Bounds(connections=3, of_peer=100), ())
    busy, idle = [Idle(0, is_busy=True), Idle(1, is_busy=True)], Idle(2)
    entered(crowd, "192.0.2.1", *busy)
    entered(crowd, "192.0.2.2", idle)
    assert crowd.enter(Idle(3), "192.0.2.3")
    assert idle.gone
    assert crowd.enter(Idle(4, is_busy=True), "192.0.2.3")


def test_a_house_full_of_requests_under_way_takes_nobody() -> None:
    crowd = Crowd(Bounds(connections=2, of_peer=1), ())
    entered(crowd, "192.0.2.1", Idle(0, is_busy=True), Idle(1, is_busy=True))
    assert not crowd.enter(Idle(2), "192.0.2.2")
    assert len(crowd._of) == 2
    assert len(crowd._peers) == 1


def test_a_trusted_proxy_has_no_share_and_gives_way_last() -> None:
    crowd = Crowd(Bounds(connections=4, of_peer=1), [ip_network("10.0.0.0/8")])
    proxied, guest = [Idle(0), Idle(1), Idle(2)], Idle(3)
    entered(crowd, "10.0.0.1", *proxied)
    entered(crowd, "192.0.2.1", guest)
    assert crowd.enter(Idle(4), "10.0.0.1")
    assert gone(*proxied, guest) == [False, False, False, True]
    assert crowd.enter(Idle(5), "192.0.2.1")
    assert gone(*proxied) == [True, False, False]


def test_a_customers_network_of_ipv6_is_one_peer() -> None:
    crowd = Crowd(Bounds(connections=100, of_peer=1), (), timer=lambda: 100.0)
    one, other = Idle(0), Idle(1)
    crowd.enter(one, "2001:db8::1")
    crowd.enter(other, "2001:db8::2")
    assert gone(one, other) == [True, False]


def test_who_has_left_is_forgotten() -> None:
    crowd = Crowd(Bounds(), ())
    one = Idle(0)
    crowd.enter(one, "192.0.2.1")
    crowd.leave(one)
    crowd.leave(one)
    assert (crowd._of, crowd._peers) == ({}, {})


def test_a_peer_beyond_its_pace_waits_whatever_connection_it_uses() -> None:
    now = [0.0]
    bounds = Bounds(per_s=10, at_once=2)
    crowd = Crowd(bounds, [ip_network("10.0.0.0/8")], timer=lambda: now[0])
    one, two, other, proxy = Idle(0), Idle(0), Idle(0), Idle(0)
    entered(crowd, "192.0.2.1", one, two)
    entered(crowd, "192.0.2.2", other)
    entered(crowd, "10.0.0.1", proxy)
    waits = [crowd.wait_s(each) for each in (one, two, one, two)]
    assert waits == pytest.approx([0, 0, 0.1, 0.2])
    assert [crowd.wait_s(each) for each in (other, *[proxy] * 50)] == [0.0] * 51
    now[0] = 0.4
    assert crowd.wait_s(one) == 0
    crowd.leave(one)
    assert crowd.wait_s(one) == 0  # it has ended meanwhile


# --- over sockets ---------------------------------------------------------------------------


def asked(url: str, source: str, method: str, path: str, body: bytes = b"", **more: str) -> int:
    """Ask from a source; give the status."""
    one = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S, source_address=(source, 0))
    try:
        one.request(method, path, body, {name.replace("_", "-"): v for name, v in more.items()})
        return one.getresponse().status
    finally:
        one.close()


def reported(url: str, source: str) -> int:
    return asked(url, source, "POST", f"/reports/{TOKEN}", PLAIN)


HEAD = b"GET /healthz HTTP/1.1\r\nX: "
BUSY = (
    b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 9\r\n"
    b"Expect: 100-continue\r\n\r\n"
) % RELAY.encode()
"""Under way, once it was told to continue, until its body comes."""


def busy_one(url: str, open_ones: ExitStack, source: str = "127.0.0.1") -> None:
    host, _, port = urlsplit(url).netloc.partition(":")
    sock = socket.create_connection((host, int(port)), PATIENCE_S, (source, 0))
    open_ones.enter_context(sock)
    sock.sendall(BUSY)
    assert sock.recv(100).startswith(b"HTTP/1.1 100 ")


def test_idle_connections_of_one_source_keep_no_report_out(
    serve: Serve, client: redis.Redis
) -> None:
    with serve(bounds=Bounds(connections=30, of_peer=100)) as url, ExitStack() as open_ones:
        first = open_ones.enter_context(connection(url))
        first.sendall(HEAD)
        for _ in range(50):
            open_ones.enter_context(connection(url)).sendall(HEAD)
        assert answer_of(first) == b""
        assert reported(url, OTHER) == 200
        assert reported(url, "127.0.0.1") == 200
    assert inbox(client) == {(REPORT["mid"], REPORT["stat"])}


def test_a_house_full_of_requests_is_told_503(serve: Serve) -> None:
    with serve(bounds=Bounds(connections=2)) as url, ExitStack() as open_ones:
        busy_one(url, open_ones)
        busy_one(url, open_ones)
        with connection(url) as late:
            assert late.recv(65_536).startswith(b"HTTP/1.1 503 ")


def test_a_source_that_asks_too_much_is_refused_and_others_and_reports_are_not(
    serve: Serve,
) -> None:
    with serve(share=Share(requests=9, of_source=2)) as url, ExitStack() as open_ones:
        busy_one(url, open_ones)
        assert asked(url, "127.0.0.1", "GET", "/healthz") == 200
        busy_one(url, open_ones)
        assert asked(url, "127.0.0.1", "GET", "/healthz") == 503
        assert reported(url, "127.0.0.1") == 200
        assert asked(url, OTHER, "GET", "/healthz") == 200
    with serve(share=Share(requests=1, of_source=9)) as url, ExitStack() as open_ones:
        busy_one(url, open_ones)
        assert asked(url, OTHER, "GET", "/healthz") == 503
        assert asked(url, OTHER, "POST", f"/reports/{TOKEN}x", PLAIN) == 503
        assert reported(url, OTHER) == 200


def test_a_stranger_beyond_its_pace_is_answered_later_and_reports_are_not(serve: Serve) -> None:
    """Its second request would wait for an hour; its reports do not, nor what callers ask."""
    known = b"GET /messages/x HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % RELAY.encode()
    report = f"POST /reports/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PLAIN)}\r\n\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve(bounds=Bounds(per_s=1 / 3600, at_once=0)) as url, connection(url) as sock:
        sock.sendall((report.encode() + PLAIN + known) * 5 + get * 2)
        told = b""
        while told.count(b'"msg":"ok"') < 6:
            told += sock.recv(65_536)
        assert reported(url, "127.0.0.1") == 200
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_what_was_under_way_makes_room(serve: Serve) -> None:
    with serve(share=Share(requests=1, of_source=1)) as url:
        for _ in range(5):
            assert asked(url, OTHER, "GET", "/healthz") == 200


def test_behind_a_trusted_proxy_each_client_has_its_own_share(serve: Serve) -> None:
    share = Share(requests=9, of_source=1)
    with serve(share=share, SMSQ_TRUSTED_PROXIES=OTHER) as url, ExitStack() as open_ones:
        busy_one(url, open_ones, OTHER)  # of the proxy itself, as it names no client
        assert asked(url, OTHER, "GET", "/healthz") == 503
        assert asked(url, OTHER, "GET", "/healthz", X_Forwarded_For="192.0.2.7") == 200
