"""The alerts by Prometheus' own tool. What needs no tool is in tests/ops/test_alerts.py."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import redis
import yaml

from harness.ops_docs import CONFIG, PROMETHEUS, RULES, RULES_TEST, panels
from smsq_worker.api.metrics import render
from smsq_worker.config.settings import Settings
from smsq_worker.inspection.snapshot import Inspector


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.fail("promtool is missing: install Debian's package prometheus")
    return found


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("check", "rules"), RULES),
        (("check", "config"), CONFIG),
        (("test", "rules"), RULES_TEST),
    ],
    ids=["rules", "config", "each alert fires and ends"],
)
def test_promtool_has_nothing_to_say_against(
    promtool: str, command: tuple[str, ...], file: Path
) -> None:
    run(promtool, *command, str(file))


def test_the_dashboard_asks_in_good_promql(promtool: str, tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    recorded = [
        {"record": f"panel:{n}", "expr": re.sub(r"\$__\w+", "5m", expression)}
        for n, expression in enumerate(asked)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    run(promtool, "check", "rules", str(file))


def test_the_metrics_are_well_named(promtool: str, client: redis.Redis, settings: Settings) -> None:
    with closing(Inspector(client, settings.rules, settings.broker_url)) as lookout:
        run(promtool, "check", "metrics", given=render(lookout).decode())


def run(*command: str, given: str = "") -> None:
    done = subprocess.run(
        command, input=given, cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
