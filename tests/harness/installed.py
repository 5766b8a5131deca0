"""A project in whose environment the wheel is installed, as far as pytest sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from harness.paths import ROOT

METADATA = "Metadata-Version: 2.1\nName: smsq-as-a-wheel\nVersion: 0\n"


def as_a_project(path: Path) -> Path:
    """Return the folder of a project, for `run_pytest`."""
    wheel = path / "site" / "smsq_as_a_wheel-0.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "METADATA").write_text(METADATA)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["pytest11"]
    lines = "".join(f"{name} = {module}\n" for name, module in points.items())
    (wheel / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    # By these pytest knows whose assertions to rewrite.
    (wheel / "RECORD").write_text("".join(f"{Path(one).name}/__init__.py,,\n" for one in packages))
    (path / "project").mkdir()
    (path / "project" / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return path / "project"


def run_pytest(project: Path, *options: str, **tests: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests, where nothing listens at its SMSQ_REDIS_URL."""
    for name, text in tests.items():
        (project / f"test_{name}.py").write_text(text)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SMSQ_", "PYTEST_"))}
    environ |= {
        "PYTHONPATH": str(project.parent / "site"),
        "SMSQ_REDIS_URL": "redis://127.0.0.1:1/0",  # a reserved port
    }
    others = [part for name in ("schemathesis", "anyio") for part in ("-p", f"no:{name}")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *others, *options],
        cwd=project,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
