"""The comparison with other queues: what can be tested of it without them and without a clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import celery
import pytest
import requests

from bench.figures import Report
from bench.peers import vendor, venv
from bench.peers.goals import Goal, judge
from bench.place import Gateway
from harness.paths import TESTS
from harness.waiting import eventually
from smsq_worker.infra.ports import free_port


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway(free_port())
    command = [sys.executable, "-m", "bench.gateway", str(gateway.port)]
    process = subprocess.Popen(command, cwd=TESTS)
    try:
        eventually(gateway.answers)
        yield gateway
    finally:
        process.kill()
        process.wait()
        gateway._session.close()


def test_the_gateway_takes_the_peers_request(gateway: Gateway) -> None:
    gateway.set(mode="ok", latency=0)
    query = vendor.query("13900000000", vendor.TEMPLATE, vendor.CODE)
    answer = requests.get(gateway.url, query, headers={"Authorization": "secret"}, timeout=30)
    vendor.check(answer.json())
    (call,) = gateway.calls()
    assert (call.phone, call.worker, call.mid) == ("13900000000", "secret", answer.json()["mid"])


def test_a_refused_request_fails_in_the_peer(gateway: Gateway) -> None:
    gateway.set(mode="400", latency=0)
    answer = requests.get(gateway.url, vendor.query("13900000000", "S", "1"), timeout=30)
    with pytest.raises(ValueError, match="校验失败"):
        vendor.check(answer.json())


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "ratio", "reached"),
    [
        (300, 400, False, 0.75, True),
        (400, 400, False, 1, True),
        (500, 400, False, 1.25, False),
        (3000, 1500, True, 2, True),
        (1500, 1500, True, 1, True),
        (750, 1500, True, 0.5, False),
    ],
)
def test_a_goal_is_judged_by_its_ratio_to_the_bound(
    value: float, bound: float, at_least: bool, ratio: float, reached: bool
) -> None:
    goal = Goal("it", value, bound, "ms", at_least=at_least)
    assert (goal.ratio, goal.reached) == (ratio, reached)


def test_a_missed_goal_is_told() -> None:
    report = Report("peers", [{"worker": "smsq"}])
    judge([Goal("good", 1, 2, "ms"), Goal("bad", 3, 2, "ms")], report)
    assert report.broken == ["bad: 3 ms, bound <= 2 ms"]
    assert "1.50" in report.text()


def test_the_naive_peer_has_our_version_of_celery() -> None:
    assert f"celery {celery.__version__}," in venv.versions()
