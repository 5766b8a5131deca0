"""Looking names up and connecting in bounded time, with a resolver that hangs for real."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from harness.gateways import gateway_at
from harness.raw_server import Server, http_answer, says, unanswering
from harness.waiting import eventually
from smsq_worker.callbacks.poster import Posted, Poster
from smsq_worker.config.gateway_address import TRIES, Address
from smsq_worker.domain.states import Outcome
from smsq_worker.infra import resolver
from smsq_worker.infra.resolver import NameResolutionError, Resolver, ResolverTooSlow, connect

NAME = "gateway.test"
SOON_S = 0.05
PATIENCE_S = 30.0
YES = http_answer(b'{"code": 200, "msg": "ok", "mid": "A1"}')


class Hanging:
    """The system's resolver: it hangs until it is let go, and then knows one name."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.let_go = threading.Event()
        self.asked = 0
        self.answer: list[Any] | OSError = real("127.0.0.1", None, type=socket.SOCK_STREAM)

    def look_up(self, host: str, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return self._real(host, *args, **options)
        self.asked += 1
        self.let_go.wait(PATIENCE_S)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    hanging = Hanging(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", hanging.look_up)
    monkeypatch.setattr("smsq_worker.infra.adapter.RESOLVER", Resolver())
    monkeypatch.setattr("smsq_worker.callbacks.ssrf_guard.RESOLVER", Resolver())
    yield hanging
    hanging.let_go.set()
    eventually(lambda: not lookups())


def lookups() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "smsq-lookup"]


def test_who_asks_waits_no_longer_than_it_likes(system: Hanging) -> None:
    with pytest.raises(ResolverTooSlow):
        Resolver().look_up(NAME, SOON_S)


def test_an_answer_that_came_too_late_serves_the_next_who_asks_once(system: Hanging) -> None:
    asked = Resolver()
    with pytest.raises(ResolverTooSlow):
        asked.look_up(NAME, SOON_S)
    system.let_go.set()
    assert asked.look_up(NAME, PATIENCE_S) == system.answer
    assert system.asked == 1
    asked.look_up(NAME, PATIENCE_S)
    assert system.asked == 2


def test_all_who_ask_meanwhile_wait_for_the_same_answer(system: Hanging) -> None:
    asked, found = Resolver(), list[Any]()
    threads = [
        threading.Thread(target=lambda: found.append(asked.look_up(NAME, PATIENCE_S)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: system.asked)
    assert len(lookups()) == 1
    system.let_go.set()
    for thread in threads:
        thread.join()
    assert len(found) == 8


def test_one_that_hangs_for_ever_is_asked_again_a_few_times_and_no_more(
    system: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "STUCK_S", 0.0)
    asked = Resolver()
    for _ in range(3 * resolver.THREADS):
        with pytest.raises(ResolverTooSlow):
            asked.look_up(NAME, 0.001)
    eventually(lambda: system.asked == resolver.THREADS)
    assert len(lookups()) == resolver.THREADS
    # Of another name nobody takes notice.
    assert asked.look_up("127.0.0.1", PATIENCE_S)
    # The first answer is as good as the last one's, which may never come.
    system.let_go.set()
    eventually(lambda: not lookups())
    assert asked.look_up(NAME, 0.001) == system.answer


def test_a_failure_is_not_kept(system: Hanging) -> None:
    system.let_go.set()
    asked, good = Resolver(), system.answer
    system.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    with pytest.raises(NameResolutionError):
        asked.look_up(NAME, PATIENCE_S)
    eventually(lambda: not lookups())
    system.answer = good
    assert asked.look_up(NAME, PATIENCE_S) == good


def test_a_call_whose_resolver_hangs_ends_as_not_sent(system: Hanging) -> None:
    with Server(says(YES)) as server:
        url = server.url.replace("127.0.0.1", NAME)
        gateway = gateway_at(Address(url, "secret", connect_timeout_s=SOON_S))
        call = gateway.submit("13800138000", "SMS_1001", "482913")
        assert (call.outcome, call.detail) == (Outcome.NOT_SENT, "ResolverTooSlow")
        assert system.asked == 1 < TRIES
        system.let_go.set()
        eventually(lambda: not lookups())
        assert gateway.submit("13800138000", "SMS_1001", "482913").outcome is Outcome.ACCEPTED
        gateway.close()


def test_an_outcome_whose_receiver_cannot_be_looked_up_is_told_later(system: Hanging) -> None:
    with Server(says(http_answer())) as server:
        url = server.url.replace("127.0.0.1", NAME)
        poster = Poster(frozenset([NAME]), connect_timeout_s=SOON_S)
        assert poster.post(url, {}, b"") == Posted(
            done=False, detail="ResolverTooSlow", why="unreached"
        )
        system.let_go.set()
        eventually(lambda: not lookups())
        assert poster.post(url, {}, b"").done
        poster.close()


def places(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


def test_addresses_that_swallow_everything_leave_time_for_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with unanswering() as url, ExitStack() as stack:
        port = int(urlsplit(url).port or 0)
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen()
        silent = ["127.0.0.1"] * (resolver.MAX_ADDRESSES - 1)
        end = time.monotonic() + 4
        with connect(places(*silent, "127.0.0.2"), port, end, ()) as sock:
            assert sock.getpeername() == ("127.0.0.2", port)
        # Together they have no longer than one.
        with pytest.raises(TimeoutError):
            connect(places(*silent), port, time.monotonic() + SOON_S, ())


def test_without_time_nothing_is_tried() -> None:
    with Server(says(YES)) as server, pytest.raises(TimeoutError):
        connect(places("127.0.0.1"), server.server_address[1], time.monotonic() - 1, ())
    assert server.connections == 0


def test_without_an_address_it_says_so() -> None:
    with pytest.raises(OSError, match="no address"):
        connect([], 80, time.monotonic() + 1, ())


def test_of_an_address_family_that_the_machine_lacks_the_next_is_taken() -> None:
    with Server(says(YES)) as server:
        odd = (999, socket.SOCK_STREAM, 6, "", ("x", 0))
        end = time.monotonic() + PATIENCE_S
        with connect([odd, *places("127.0.0.1")], server.server_address[1], end, ()) as sock:
            assert sock.getpeername()[1] == server.server_address[1]
