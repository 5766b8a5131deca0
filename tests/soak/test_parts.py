"""What a soak judges by, and its proxy: a fault that it could not see would be no fault."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from smsq.tracking import Attempt, Status
from smsq_worker.infra.ports import free_port
from soak.compare import Acceptance, compare, gave_up, unaccounted
from soak.plan import LEASE_S, MAX_RESENDS
from soak.proxy import Proxy

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
PHONE = "13000008000"


def later(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def attempt(n: int, at_s: float, outcome: str | None, mid: str | None = None) -> Attempt:
    return Attempt(n, later(at_s), mid, outcome, None, None)


def message(state: str, reason: str | None = None, *attempts: Attempt) -> Status:
    ended = later(60)
    return Status(
        *("m1", state, "notice", "SMS_1", "130****8000", reason, None, None, None),
        *(attempts, BEGAN, None, ended, None, False),
    )


def sms(at_s: float, mid: str = "M") -> Acceptance:
    return Acceptance(later(at_s), mid)


def untrue(status: Status, *calls: Acceptance, policy: str = "resend") -> int:
    result = compare({"m1": PHONE}, {"m1": status}, {PHONE: calls}, policy)
    assert result.good(policy) is not bool(result.untrue)
    return len(result.untrue)


def test_each_sms_needs_an_attempt_that_may_have_sent_it_under_its_lease() -> None:
    first = attempt(1, 0, "maybe_sent")
    assert unaccounted([first], [sms(0.1)]) is None
    assert unaccounted([first], [sms(LEASE_S + 3)])
    assert unaccounted([first], [sms(0.1), sms(0.2, "N")]), "one call sends one SMS"
    assert unaccounted([replace(first, outcome="not_sent")], [sms(0.1)])


def test_an_answer_tells_which_attempt_sent_an_sms() -> None:
    attempts = [attempt(1, 0, "accepted", "M"), attempt(2, 9, "accepted", "N")]
    assert unaccounted(attempts, [sms(9.1, "N"), sms(0.1, "M")]) is None
    assert unaccounted(attempts, [sms(9.1, "N"), sms(11, "M")])


def test_what_certainly_was_not_sent_spends_no_resend() -> None:
    not_sent, doubted = (
        [attempt(n, n, outcome) for n in range(1, MAX_RESENDS + 1)]
        for outcome in ("not_sent", "maybe_sent")
    )
    last = attempt(MAX_RESENDS + 1, 50, "maybe_sent")
    assert gave_up(PHONE, message("failed", "local:resends", *not_sent, last))
    assert not gave_up(PHONE, message("failed", "local:resends", *doubted, last))
    learnt_at_the_end = attempt(MAX_RESENDS, 59, "not_sent")
    told = message("failed", "local:resends", *doubted[1:], learnt_at_the_end, last)
    assert not gave_up(PHONE, told)
    assert not gave_up(PHONE, message("failed", "local:dropped", *not_sent))


def test_under_hold_nothing_is_sent_twice() -> None:
    told = message("delivered")
    assert not untrue(told, sms(1), policy="hold")
    assert untrue(told, sms(1), sms(2), policy="hold")


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets, over any number of connections."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            if stopping:
                return connection.close()
            Thread(target=serve, args=(connection,), daemon=True).start()

    stopping = False
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        accepting = Thread(target=accept)
        accepting.start()
        yield port
        stopping = True
        socket.create_connection(("127.0.0.1", port)).close()
        accepting.join()


def test_a_forgotten_connection_is_silent_and_a_new_one_works(echo: int) -> None:
    proxy = Proxy(free_port(), echo)
    with proxy.running(), connected(proxy) as old:
        assert proxy.forget() == 1
        old.sendall(b"lost")
        with connected(proxy):
            old.settimeout(0.2)
            with pytest.raises(TimeoutError):
                old.recv(1)


def test_idle_connections_are_closed_and_others_go_on(echo: int) -> None:
    proxy = Proxy(free_port(), echo)
    with proxy.running(), connected(proxy) as idle:
        proxy.close_idle()
        assert idle.recv(1) == b""


def connected(proxy: Proxy) -> socket.socket:
    """Connect, and see that bytes pass."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    connection.sendall(b"?")
    assert connection.recv(1) == b"?"
    return connection
