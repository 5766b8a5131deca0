"""A request is written only while its attempt's lease holds, whatever kept it on its way."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import smsq
from harness.gateways import gateway_at
from harness.machine import Machine, machine
from harness.raw_server import Server, http_answer, says
from harness.scene import Scene
from harness.waiting import becomes, eventually, known
from smsq.boottime import now_s
from smsq_worker.config.gateway_address import Address
from smsq_worker.domain.states import LeaseExpired, Outcome
from smsq_worker.ledger import Admitted
from smsq_worker.sending.send_times import SendTimes
from smsq_worker.vendors.client import SPARE_S, TOO_LATE, Gateway
from smsq_worker.vendors.vendor import GatewayResult

READ_S = 30.0
YES = http_answer(b'{"code": 200, "msg": "ok", "mid": "A1"}')
ACCEPTED = GatewayResult(Outcome.ACCEPTED, "", "A1")

# The client's judgement


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(says(YES)) as server:
        yield server


@pytest.fixture
def gateway(server: Server) -> Iterator[Gateway]:
    made = gateway_at(Address(server.url, "secret", read_timeout_s=READ_S))
    yield made
    made.close()


def send(
    gateway: Gateway, lease_ends: float, wait: Callable[[], None] = lambda: None
) -> GatewayResult:
    return gateway.submit("13800138000", "SMS_1001", "482913", wait=wait, lease_ends=lease_ends)


def test_it_is_written_while_its_answer_can_come_within_the_lease(
    gateway: Gateway, server: Server
) -> None:
    assert send(gateway, now_s() + 2 * READ_S) == ACCEPTED
    # The next, over the same connection.
    assert send(gateway, now_s() + READ_S) == TOO_LATE
    assert send(gateway, now_s() + READ_S + SPARE_S / 2) == TOO_LATE
    assert len(server.requests) == 1


def test_one_that_comes_too_late_is_not_tried_again_and_blames_nobody(
    gateway: Gateway, server: Server
) -> None:
    call = send(gateway, now_s())
    assert (call.outcome, call.connected, call.trouble) == (Outcome.NOT_SENT, True, False)
    assert call.detail == "its lease was over before the request was written"
    # And leaves nothing behind for the next of its thread.
    assert gateway.submit("13800138000", "SMS_1001", "482913") == ACCEPTED
    assert (len(server.requests), server.connections) == (1, 2)


def test_it_is_judged_after_the_wait_for_its_departure(gateway: Gateway, server: Server) -> None:
    end = now_s() + READ_S + SPARE_S + 0.2

    def waits() -> None:
        eventually(lambda: now_s() > end - READ_S - SPARE_S)

    assert send(gateway, end, waits) == TOO_LATE
    assert server.requests == []


def test_a_departure_that_is_refused_sends_nothing(gateway: Gateway, server: Server) -> None:
    def refuses() -> None:
        raise LeaseExpired

    assert send(gateway, now_s() + 2 * READ_S, refuses) == TOO_LATE
    assert server.requests == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the clock")
def test_the_clock_goes_on_while_the_machine_is_suspended() -> None:
    assert 0 <= now_s() - time.clock_gettime(time.CLOCK_BOOTTIME) + 60 <= 60


# The ledger's


def admitted(scene: Scene) -> Admitted:
    scene.enter()
    go = scene.admit()
    assert isinstance(go, Admitted)
    return go


def test_an_admission_says_how_long_its_lease_lasts_and_never_longer(scene: Scene) -> None:
    before, lease_s = now_s(), scene.rules.lease_s
    go = admitted(scene)
    asked_before = now_s()
    assert before + lease_s <= go.lease_ends <= asked_before + lease_s
    # The ledger's own begins later: when the question has come to it.
    left_there = scene.timer() / 1000 - scene.now_us() / 1_000_000
    assert go.lease_ends - now_s() <= left_there + 0.002


def newer(scene: Scene, go: Admitted) -> None:
    scene.run_out()
    scene.run_out()
    scene.go()


def admitted_again(scene: Scene, go: Admitted) -> None:
    """Let a failover undo the admission, and another take its number."""
    scene.client.hset("smsq:m:m1", "1:at", go.begun + 1)


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda scene, go: scene.run_out(), id="its lease ran out"),
        pytest.param(newer, id="a newer one began"),
        pytest.param(admitted_again, id="a failover gave its number away"),
        pytest.param(lambda scene, go: scene.client.flushall(), id="nobody knows it"),
        pytest.param(
            lambda scene, go: scene.ledger.record("m1", 1, Outcome.REFUSED, detail="gateway:400"),
            id="it has ended",
        ),
    ],
)
def test_an_attempt_that_no_longer_holds_gets_no_departure(
    scene: Scene, happens: Callable[[Scene, Admitted], object]
) -> None:
    go = admitted(scene)
    assert scene.ledger.depart("m1", go) > time.monotonic() - 60
    happens(scene, go)
    with pytest.raises(LeaseExpired):
        scene.ledger.depart("m1", go)
    assert f"{go.attempt} m1" not in scene.client.zrange("smsq:calls", 0, -1)
    late = SendTimes(scene.ledger)
    late.note_round_trip(0.0)
    with pytest.raises(LeaseExpired):
        late.wait("m1", Admitted(1, "1", "t", "c", departs_at=time.monotonic() - 1, begun=go.begun))


# Whole workers

RESOLVER = """
import os, signal, socket, threading, time

before_stop = threading.Lock()

def look_up(host, *args, _real=socket.getaddrinfo, **options):
    if host == "gateway.test":
        # No other gets through between the two lines.
        with before_stop:
            if os.path.exists({stop!r}):
                os.unlink({stop!r})
                # At this thread: it stops at once, and not when another has been woken up to do so.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        while os.path.exists({away!r}):
            time.sleep(0.01)
        host = "127.0.0.1"
    return _real(host, *args, **options)

socket.getaddrinfo = look_up
"""
TIMES = {
    "SMSQ_GATEWAY_ALLOW_PLAINTEXT": "1",
    "SMSQ_CONNECT_TIMEOUT_S": "0.2",
    "SMSQ_READ_TIMEOUT_S": "1",
    "SMSQ_LEASE_S": "4",
    "SMSQ_RETRY_FIRST_S": "0.1",
    "SMSQ_RETRY_MAX_S": "0.2",
    "SMSQ_BREAKER": "",
}


@pytest.fixture
def here(environ: dict[str, str], tmp_path: Path) -> Iterator[Machine]:
    """Workers whose resolver is in the test's hands."""
    stop, away = str(tmp_path / "stop"), str(tmp_path / "away")
    (tmp_path / "path").mkdir()
    code = RESOLVER.format(stop=stop, away=away)
    (tmp_path / "path" / "sitecustomize.py").write_text(code)
    with machine(environ, tmp_path) as running:
        url = running.vendor.url.replace("127.0.0.1", "gateway.test")
        path = {"PYTHONPATH": str(tmp_path / "path")}
        running.environ |= TIMES | path | {"SMSQ_GATEWAY_URL": url}
        yield running


def send_one() -> list[str]:
    return [smsq.send_sms.delay("13800138000", "SMS_1001", "482913").id]


def send_batch() -> list[str]:
    ids: list[str] = []
    rows = [{"phone": f"1380013800{n}", "template": "SMS_1001"} for n in range(6)]
    smsq.send_many(rows, lane="notice", on_batch=ids.extend)
    return ids


@pytest.mark.parametrize("enqueue", [send_one, send_batch])
def test_a_worker_that_was_stopped_over_the_lease_and_goes_on_sends_nothing(
    here: Machine, tmp_path: Path, enqueue: Callable[[], list[str]]
) -> None:
    (tmp_path / "stop").touch()
    stopped = here.start_worker()
    ids = enqueue()
    eventually(lambda: os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT))
    here.start_worker()
    for message_id in ids:
        assert becomes(message_id, "accepted").attempts[0].detail == "lease ran out"
    os.kill(stopped.pid, signal.SIGCONT)
    for message_id in ids:
        first = eventually(
            lambda i=message_id: (one := known(i).attempts[0]).outcome != "maybe_sent" and one
        )
        assert first.outcome == "not_sent"
    assert len(here.vendor.calls) == len(ids)
    assert here.ledger.counters()["doubts_resolved:not_sent"] == len(ids)


def test_a_resolver_that_is_away_for_longer_than_all_leases_costs_nothing_but_time(
    here: Machine, tmp_path: Path
) -> None:
    (tmp_path / "away").touch()
    here.start_worker()
    ids = [smsq.send_sms.delay(f"1380013800{n}", "SMS_1001", ttl_s=86_400).id for n in range(4)]
    # More attempts than doubts would be allowed.
    for message_id in ids:
        eventually(lambda i=message_id: len(known(i).attempts) > 3)
    assert here.vendor.calls == []
    (tmp_path / "away").unlink()
    for message_id in ids:
        outcomes = [one.outcome for one in becomes(message_id, "accepted").attempts]
        assert set(outcomes[:-1]) == {"not_sent"}
    assert len(here.vendor.calls) == 4
    assert here.possible_duplicates() == 0
