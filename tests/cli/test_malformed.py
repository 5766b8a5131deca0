"""One entry that nobody can read: the others are shown all the same, and this one is told of."""

from __future__ import annotations

import json

import pytest

import smsq
from harness.cli import here
from harness.scene import OTHER_PHONE, Scene
from smsq import keys

BAD = ["{", "[]", "null", "1", '{"phone": 1}', '{"since": "x", "cause": "report"}']


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
def test_a_list_with_a_malformed_entry(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: list[str],
    bad: str,
) -> None:
    client = scene.client
    client.hset(keys.SUPPRESSED, "x", bad)
    client.hset(keys.PAUSES, "template:x", bad)
    client.rpush(keys.early("MID"), bad)
    client.zadd(keys.PARKED, {"MID": 1_700_000_000_000})
    client.zadd(keys.DEAD_NOTICES, {bad: 1_700_000_000_000})
    client.hset(keys.callback("", ""), f"{bad}:tries", "x")
    here(monkeypatch, capsys, "suppressed", "add", OTHER_PHONE)

    def shown(*words: str) -> str:
        code, out, _ = here(monkeypatch, capsys, *words, *option)
        assert code == 0
        return out if not option else json.dumps(json.loads(out), ensure_ascii=False)

    assert "139****9000" in shown("suppressed")
    assert "Traceback" not in capsys.readouterr().err
    assert "its entry is malformed" in shown("status")
    assert "malformed" in shown("parked")
    assert json.dumps(bad)[1:-1] in shown("notices") or bad in shown("notices")


def test_what_is_left_out_of_a_list_is_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.client.hset(keys.SUPPRESSED, "x", "{")
    assert list(scene.control.suppressed()) == []
    assert f"an entry of {keys.SUPPRESSED} is malformed, and left out" in caplog.messages


def test_a_message_with_spoilt_bytes_is_shown(scene: Scene) -> None:
    scene.enter()
    scene.client.hset(keys.message("m1"), "reference", b"\xff\xfe")
    status = smsq.status("m1")
    assert status is not None
    assert (status.state, status.reference) == ("queued", "\ufffd\ufffd")
    scene.enter("m2")
    assert scene.status("m2").state == "queued"
