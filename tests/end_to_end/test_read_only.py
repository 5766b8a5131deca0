"""A Redis that answers but takes no writes: a worker waits for it as for one that is away."""

from __future__ import annotations

import pytest

from harness.machine import ends, started
from harness.outage import Outage
from harness.waiting import eventually
from smsq_worker.devstack import services

KINDS = {
    "replica": (
        ("REPLICAOF", "127.0.0.1", "1"),
        ("REPLICAOF", "NO", "ONE"),
        "the server has become a replica",
    ),
    "too few replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
        "NOREPLICAS",
    ),
}
CANNOT = "Cannot connect to"


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_waits_ever_longer_and_goes_on(outage: Outage, kind: str) -> None:
    turn, back, words = KINDS[kind]
    outage.here.start_worker()
    outage.here.client.execute_command(*turn)
    eventually(lambda: outage.log().count(CANNOT) >= 3)
    log = outage.log()
    assert words in log
    assert log.count("Connection to broker lost") == 1
    assert "Frequent restarts" not in log
    assert "Traceback" not in log
    outage.here.client.execute_command(*back)
    outage.send("m1")
    outage.becomes("m1", "accepted")


def test_one_that_waits_for_it_stops_when_asked(outage: Outage) -> None:
    turn, *_ = KINDS["replica"]
    worker = outage.here.start_worker()
    outage.here.client.execute_command(*turn)
    eventually(lambda: outage.log().count(CANNOT) >= 2)
    worker.terminate()
    ends(worker, 0)


def test_one_that_starts_before_it_takes_writes_waits(outage: Outage) -> None:
    turn, back, _ = KINDS["replica"]
    outage.here.client.execute_command(*turn)
    service = services.worker(outage.here.environ["SMSQ_REDIS_URL"], outage.here.environ)
    with (outage.here.logs / "worker0.log").open("wb") as log:
        outage.here.workers.append(started(service.command, service.environ, log))
    eventually(lambda: outage.log().count(CANNOT) >= 2)
    outage.here.client.execute_command(*back)
    outage.send("m1")
    outage.becomes("m1", "accepted")
    assert "Traceback" not in outage.log()
