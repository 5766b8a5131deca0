"""The API has an answer in time, whatever Redis does."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.api import serving
from harness.credentials import RELAY
from harness.faulty_line import Line, freezing
from harness.silent_redis import SOON_S, hurried, silent
from harness.waiting import eventually
from smsq import keys
from smsq.connection import connect

PHONE = "13800138000"
TRIES = 60
"""More than there are threads for them."""


@pytest.mark.parametrize("failing", ["frozen", "silence", "dribble"])
def test_the_api_answers_every_request_in_time_and_reports_and_health_are_not_kept(
    environ: dict[str, str], tmp_path: Path, failing: str
) -> None:
    with freezing() as server, Line(server.port) as line:
        own = hurried(environ, line.url, SMSQ_HOME=str(tmp_path / "home"))
        with serving(own, tmp_path / "log") as api:
            authorized = {"Authorization": RELAY}
            eventually(lambda: api.get("/readyz").status_code == 200)
            server.freeze() if failing == "frozen" else getattr(line, failing)()
            relayed = {"module": "sms", "file": "send", "action": "send", "mobphone": PHONE}
            relayed |= {"smstemplate": "SMS_1001"}
            asked: list[tuple[int, str, dict[str, Any]]] = [
                (503, "/readyz", {}),
                (503, "/metrics", {}),
                (503, "/messages/m1", {"headers": authorized}),
                (503, "/", {"headers": authorized, "params": relayed}),
            ]

            def ask(one: tuple[int, str, dict[str, Any]]) -> tuple[int, int, float]:
                expected, path, options = one
                began = time.monotonic()
                answer = requests.get(f"{api.url}{path}", timeout=60, **options)
                return expected, answer.status_code, time.monotonic() - began

            with ThreadPoolExecutor(TRIES) as crowd:
                answers = crowd.map(ask, asked * (TRIES // len(asked)))
                began = time.monotonic()
                for n in range(5):
                    assert api.get("/healthz").status_code == 200
                    large = " " * 5000 * (n % 2)
                    report = json.dumps({"mid": f"AB{n}", "stat": "DELIVRD"})
                    assert api.post(large + report).status_code == 200
                assert time.monotonic() - began < SOON_S
                for expected, status, took_s in answers:
                    assert status == expected
                    assert took_s < SOON_S
            server.thaw()
            line.reopen()
            with connect(server.url) as client:
                eventually(lambda: client.zcard(keys.INBOX) == 5)
            eventually(lambda: api.get("/readyz").status_code == 200)


def test_the_api_starts_while_redis_is_silent(environ: dict[str, str], tmp_path: Path) -> None:
    with silent() as url, serving(hurried(environ, url), tmp_path / "log") as api:
        assert api.get("/healthz").status_code == 200
