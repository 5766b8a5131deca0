"""ops/systemd, as systemd itself understands it. Needs Debian's systemd, but not as process 1."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.paths import OPS, ROOT
from smsq.settings import names
from smsq_worker.config.settings import Settings

UNITS = OPS / "systemd"
SERVICES = ("smsq-worker@1.service", "smsq-door.service", "smsq-flower.service")
FOREIGN = ("sysinit", "basic", "shutdown", "network-online", "multi-user")
MOST_EXPOSURE = 15
"""In tenths, of 100; 13 is what it was."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine's root with the units, what they name, and no more."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: install Debian's package systemd")
    root = tmp_path_factory.mktemp("root")
    units = root / "etc" / "systemd" / "system"
    shutil.copytree(UNITS, units)
    for name in FOREIGN:
        (units / f"{name}.target").write_text("[Unit]\nDescription=a target\n")
    program = root / "opt" / "smsq" / "bin" / "smsq"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return root


def analyze(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={root}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def text(name: str) -> str:
    return (UNITS / name.replace("@1", "@")).read_text()


def common() -> str:
    return text("smsq-.service.d/10-smsq.conf")


def test_systemd_takes_the_units_without_a_word(root: Path) -> None:
    done = analyze(root, "verify", *SERVICES, "smsq.target")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_misspelt_line_would_be_noticed(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    dropped_in = copy / "etc/systemd/system/smsq-.service.d/10-smsq.conf"
    dropped_in.write_text(common() + "ProtectSytem=strict\n")
    assert "ProtectSytem" in analyze(copy, "verify", SERVICES[0]).stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(root: Path, name: str) -> None:
    options = ("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager")
    done = analyze(root, *options, name)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_what_compose_runs_for_as_long_as_it_needs(name: str) -> None:
    role = re.findall(r"smsq-(\w+)", name)[0]
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][role]
    (command,) = re.findall(r"^ExecStart=/opt/smsq/bin/(.*)$", text(name), re.MULTILINE)
    own = ["--hostname", "worker%i@%H"]
    assert [word for word in command.split() if word not in own] == service["command"]
    grace = service["stop_grace_period"].strip("${}s").rpartition("-")[2]
    assert f"TimeoutStopSec={grace}\n" in text(name)
    assert "PartOf=smsq.target\n" in text(name)
    assert "WantedBy=smsq.target\n" in text(name)


def test_a_worker_has_time_to_finish_the_longest_call() -> None:
    (grace,) = re.findall(r"^TimeoutStopSec=(\d+)$", text(SERVICES[0]), re.MULTILINE)
    assert int(grace) > Settings().address.longest_call_s + 5
    # The first signal goes to the worker alone; it ends its calls.
    assert {"KillMode=mixed", "KillSignal=SIGTERM"} <= set(common().splitlines())


def test_only_a_worker_has_the_gateways_secret_and_it_is_in_no_environment_file() -> None:
    with_it = [name for name in SERVICES if "app_secret" in text(name)]
    assert with_it == [SERVICES[0]]
    assert "SMSQ_APP_SECRET=" not in text("smsq.env")
    named = set(
        re.findall(
            r"\b(SMSQ_\w+)=", "".join(p.read_text() for p in UNITS.glob("smsq*") if p.is_file())
        )
    )
    assert named <= set(names(Settings))
