"""Connections that a NAT or a firewall in between has forgotten, and says so to nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread
from typing import Self

import pytest

from harness.gateways import gateway_at
from harness.raw_server import Server, http_answer, says
from smsq_worker.callbacks.channels import channels
from smsq_worker.callbacks.poster import Poster
from smsq_worker.config.gateway_address import Address
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import Outcome
from smsq_worker.infra import adapter as adapters
from smsq_worker.ledger.callbacks import Callback
from smsq_worker.vendors.client import Gateway
from smsq_worker.vendors.vendor import GatewayResult

HERE = "127.0.0.1"
# Only a fault reaches it; but who uses a forgotten connection must wait for it.
SOON_S = 1.0
YES = http_answer(b'{"code": 200, "msg": "ok", "mid": "A1"}')
ACCEPTED = GatewayResult(Outcome.ACCEPTED, "", "A1")


class Nat:
    """Forwards connections to a server, until it forgets them: neither FIN nor RST."""

    def __init__(self, server: Server) -> None:
        self._to = server.server_address
        self._listener = socket.create_server((HERE, 0))
        self._open: list[socket.socket] = []
        self._known: set[int] = set()
        self._threads = [Thread(target=self._accept)]
        self.url = f"http://{HERE}:{self._listener.getsockname()[1]}/"

    def forget(self) -> None:
        """Swallow from now on what comes over the connections that are open."""
        self._known.clear()

    @property
    def connections(self) -> int:
        return len(self._open) // 2

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inside, _ = self._listener.accept()
                outside = socket.create_connection(self._to)
                self._open += [inside, outside]
                number = len(self._open)
                self._known.add(number)
                for ends in ((inside, outside), (outside, inside)):
                    self._threads.append(Thread(target=self._pump, args=(number, *ends)))
                    self._threads[-1].start()

    def _pump(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if number in self._known:
                    sink.sendall(data)
            if number in self._known:
                sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._open):
            sock.close()


@contextmanager
def forgetful(answer: bytes) -> Iterator[tuple[Server, Nat]]:
    with Server(says(answer)) as server, Nat(server) as nat:
        yield server, nat


def send(gateway: Gateway) -> GatewayResult:
    return gateway.submit("13800138000", "SMS_1001", "482913")


def test_a_connection_that_was_idle_for_too_long_is_not_used_again() -> None:
    with forgetful(YES) as (server, nat):
        address = Address(nat.url, "secret", read_timeout_s=SOON_S, idle_timeout_s=0)
        with closing(gateway_at(address)) as gateway:
            for _ in range(3):
                assert send(gateway) == ACCEPTED
                nat.forget()
        assert len(server.requests) == nat.connections == 3


def test_so_it_is_with_a_receiver_of_outcomes() -> None:
    with forgetful(http_answer()) as (server, nat):
        poster = Poster(frozenset([HERE]), read_timeout_s=SOON_S, idle_timeout_s=0)
        with closing(poster):
            for _ in range(3):
                assert poster.post(nat.url, {}, b"{}").done
                nat.forget()
        assert len(server.requests) == nat.connections == 3


def test_before_that_it_is_used_again_and_time_counts_from_its_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(adapters, "now_s", lambda: now[0])
    with forgetful(YES) as (_, nat), closing(gateway_at(Address(nat.url, "secret"))) as gateway:
        for passes, connections in ((0.0, 1), (29.9, 1), (29.9, 1), (30.1, 2), (29.9, 2)):
            now[0] += passes
            assert send(gateway) == ACCEPTED
            assert nat.connections == connections


def test_connections_are_kept_alive() -> None:
    with Server(says(YES)) as server:
        gateway = gateway_at(Address(server.url, "secret", idle_timeout_s=40))
        poster = Poster(frozenset([HERE]), idle_timeout_s=40)
        with closing(gateway), closing(poster):
            send(gateway)
            poster.post(server.url, {}, b"")
            for adapter in (gateway._adapter, *poster._adapters.values()):
                (sock,) = (one.sock for one in adapter._idle)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                if option := getattr(socket, "TCP_KEEPIDLE", None):
                    assert sock.getsockopt(socket.IPPROTO_TCP, option) == 20
                if option := getattr(socket, "TCP_USER_TIMEOUT", None):
                    assert sock.getsockopt(socket.IPPROTO_TCP, option) == 10_000


@pytest.mark.parametrize(("idle_s", "connections"), [("0", 2), ("30", 1)])
def test_the_setting_reaches_gateway_and_receivers(
    environ: dict[str, str], idle_s: str, connections: int
) -> None:
    with Server(says(YES)) as server:
        own = {
            "SMSQ_IDLE_TIMEOUT_S": idle_s,
            "SMSQ_GATEWAY_URL": server.url,
            "SMSQ_WEBHOOK_URL": server.url,
            "SMSQ_WEBHOOK_SECRET": "whsec_" + "a2" * 16,
            "SMSQ_OUTBOUND_ALLOW": HERE,
        }
        settings = Settings.load(environ | own)
        with closing(gateway_at(settings.address)) as gateway:
            send(gateway)
            send(gateway)
            assert server.connections == connections
        webhook = channels(settings)["webhook"]
        outcome = {"id": "m1", "state": "delivered", "finished_at": "2026-01-01T00:00:00Z"}
        notice = Callback("webhook:delivered:m1", "webhook", 0, 1, outcome, None, None, "", None)
        assert webhook(notice).done
        assert webhook(notice).done
        assert server.connections == 2 * connections
