"""The documents say what the code says, and their examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import redis

from harness.documents import ARCHITECTURE, README, blocks, rows
from harness.paths import ROOT
from smsq.contract import signature_of_send_sms
from smsq_worker.api.clients import Callers
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import NEXT


def test_the_state_table_is_that_of_the_code() -> None:
    table = {
        before: set(filter(None, to.split(", ")))
        for before, to in rows(ARCHITECTURE, "| from | to |")
    }
    assert table == {str(before): {str(s) for s in after} for before, after in NEXT.items()}


def test_the_settings_are_those_of_the_code() -> None:
    table = {
        name.strip("`"): default.strip("`")
        for name, default, _ in rows(README, "| name | default | |")
    }
    assert set(table) == {spec.metadata["env"] for spec in fields(Settings)}
    for spec in fields(Settings):
        told = table[spec.metadata["env"]]
        if told not in {"none", "the above", "system CAs"}:
            assert spec.metadata["parse"](told) == spec.default, spec.name


def test_the_arguments_are_those_of_the_code() -> None:
    table = [row[0].strip("`") for row in rows(README, "| argument | meaning | default |")]
    assert table == list(signature_of_send_sms.__annotations__)[:-1]


@pytest.mark.parametrize(
    ("example", "shown"),
    [*zip(blocks("python"), ["queued", "1000"], strict=True)],
    ids=["one", "many"],
)
def test_the_python_examples_run(
    client: redis.Redis, environ: dict[str, str], example: str, shown: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == shown


def test_the_callers_example_is_taken(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    callers = tmp_path / "callers.toml"
    callers.write_text(example)
    shop = Callers.load(callers, "").find("at least 16 characters")
    assert shop is not None
    assert (shop.name, shop.lanes, shop.rate_per_s) == ("shop", ("otp", "notice"), 5)


def test_the_shell_examples_run(client: redis.Redis, environ: dict[str, str]) -> None:
    (example,) = blocks("sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", example],
        env=environ | {"PATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for shown in ("queued", "138****8000", "余额不足", "4400"):
        assert shown in done.stdout


def test_the_override_example_is_taken(tmp_path: Path) -> None:
    from smsq_worker.domain.codes import Catalogue

    (example,) = re.findall(r"^  ```toml\n(.*?)^  ```", README, re.DOTALL | re.MULTILINE)
    override = tmp_path / "codes.toml"
    override.write_text(example)
    assert Catalogue.load(override).classify("MO:0042").code_class == "transient"


@pytest.mark.parametrize("command", re.findall(r"^smsq ([a-z]+)", README, re.MULTILINE))
def test_the_commands_named_are_there(command: str) -> None:
    from smsq_worker.cli import COMMANDS

    assert command in COMMANDS
