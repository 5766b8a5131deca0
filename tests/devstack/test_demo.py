"""`smsq demo`: every message comes to its documented end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.devstack import SMSQ
from smsq.contract import State
from smsq_worker.devstack import demo
from smsq_worker.infra.ports import free_port

# Each starts and stops five processes; on a busy machine each of them takes its time.
pytestmark = pytest.mark.timeout(600)


def test_the_demo_ends_every_message_as_its_number_demands(bare: dict[str, str]) -> None:
    """Every documented stat code, refusal, timeout and kind of report, with its documented end."""
    flower = f"127.0.0.1:{free_port()}"
    done = subprocess.run(
        [*SMSQ, "demo"],
        env=bare | {"SMSQ_FLOWER_BIND": flower},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert "all 10 were delivered over account backup, none twice" in done.stdout.replace("\n", " ")
    assert f"Flower was at http://{flower}/" in done.stdout
    home = Path(bare["SMSQ_HOME"])
    assert (home / "demo" / "redis").is_dir()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in f"{p.info['cmdline']}"]


ONE = demo.Sent("id", "8000", (State.DELIVERED, None))


def watched(monkeypatch: pytest.MonkeyPatch, *states: str) -> demo.Seen:
    """Let the demo see these states of a message that must be delivered, the last for good."""
    coming = [*states]

    def look(_: str) -> SimpleNamespace:
        return SimpleNamespace(state=coming.pop(0) if coming[1:] else coming[0], reason=None)

    monkeypatch.setattr(demo, "_status", look)
    monkeypatch.setattr(demo, "POLL_S", 0)
    return demo.watch([ONE], lambda seen: None, lambda: None)


def test_the_demo_waits_for_a_report_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch, "queued", "accepted", "unreported", "unreported", "delivered")
    assert seen.ends(ONE)


def test_the_demo_gives_up_where_nothing_more_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "STILL_S", 0.1)
    assert not watched(monkeypatch, "queued", "unreported").ends(ONE)


def test_the_demo_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DEADLINE_S", 0.1)
    assert not watched(monkeypatch, "queued").ends(ONE)
