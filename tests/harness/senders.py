"""A sender over a scene's ledger, without a gateway: what it admits is deferred, and not sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.scene import Scene
from smsq_worker.domain.backoff import Backoff
from smsq_worker.infra.spool import Spool
from smsq_worker.sending.consumer_gate import ConsumerGate
from smsq_worker.sending.own_faults import OwnFaults
from smsq_worker.sending.result_spool import ResultSpool
from smsq_worker.sending.sender import Sender


@contextmanager
def sender(scene: Scene, folder: Path, gate: ConsumerGate) -> Iterator[Sender]:
    running = Sender(
        scene.ledger,
        {},
        ResultSpool(scene.ledger, Spool(folder, "calls")),
        ledger_writer=scene.entrance,
        backoff=Backoff(30, 60),
        gate=gate,
        own_faults=OwnFaults(scene.ledger, gate, 30),
        max_attempts=8,
    )
    try:
        yield running
    finally:
        running.stop()
        running.wait_for_attempts()
