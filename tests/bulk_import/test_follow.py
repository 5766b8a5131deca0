"""`smsq send-file --wait`: what it says while nothing is sent."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.scene import Scene
from smsq_worker.bulk_import.run import Run
from smsq_worker.cli.helpers import meter as progress_meter
from smsq_worker.config.settings import Settings


@pytest.mark.parametrize("scope", ["account", "template:SMS_1001"])
def test_it_says_which_pause_keeps_the_messages_and_what_lifts_it(
    scene: Scene, settings: Settings, tmp_path: Path, scope: str
) -> None:
    scene.enter("m1")
    scene.control.pause(scope, "topping up")
    ids = tmp_path / "ids"
    ids.write_text("m1\n", encoding="ascii")
    shown: list[str] = []

    def step(_: int, words: str) -> None:
        shown.append(words)
        scene.control.resume(scope, "")
        if len(shown) == 2:
            scene.run_out_of_ttl("m1")

    @contextmanager
    def meter(*_: object) -> Iterator[Callable[[int, str], None]]:
        yield step

    bulk: Any = SimpleNamespace(settings=settings, client=scene.client, file=None, meter=meter)
    progress = SimpleNamespace(enqueued=0, done=1)
    checkpoint: Any = SimpleNamespace(progress=progress, ids_path=ids)
    assert Run(bulk, checkpoint).follow() == {"expired"}
    named = scope.replace(":", " ")
    assert shown[0].startswith(f"queued 1; paused: {named} (operator: topping up, since 20")
    assert shown[0].endswith(f"); until smsq resume {named}")
    assert shown[1] == "queued 1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_narrow_terminal_the_reason_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    words = (
        "queued 95; paused: account (operator: [red]topping up[/red]); until smsq resume account"
    )
    with progress_meter.meter("ended", 100) as step:
        step(5, words)
    shown = terminal.getvalue()
    for word in words.split():
        assert word in shown
