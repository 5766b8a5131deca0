"""The projects in examples/ run as they stand, and the guides quote them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.documents import blocks, page
from harness.paths import ROOT
from smsq_worker.infra.ports import free_port

EXAMPLES = ROOT / "examples"
PYTHON = sorted(path.parent.name for path in EXAMPLES.glob("*/pytest.ini"))
QUOTED = {"guides/django.md": "django_shop", "guides/flask.md": "flask_notice"}


@pytest.mark.parametrize("name", PYTHON)
def test_an_examples_tests_pass_without_redis(environ: dict[str, str], name: str) -> None:
    """The Redis that the environment names is not there."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    urls = dict.fromkeys(("SMSQ_REDIS_URL", "SHOP_REDIS_URL", "NOTICE_REDIS_URL"), away)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        env=environ | urls | {"PYTHONDONTWRITEBYTECODE": "1"},
        cwd=EXAMPLES / name,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize(("guide", "name"), QUOTED.items())
def test_a_guide_shows_lines_of_its_example(guide: str, name: str) -> None:
    """As `python3`: type checkers take `python` for a whole module, and see the example itself."""
    files = [path.read_text(encoding="utf-8") for path in (EXAMPLES / name).rglob("*.py")]
    for block in blocks(page(guide), "python3"):
        assert any(block in text for text in files), block


def test_the_shop_is_what_django_wants(environ: dict[str, str], tmp_path: Path) -> None:
    """Its checks pass, and its migrations are those of its models."""
    for command in (["check", "--fail-level", "WARNING"], ["makemigrations", "--check"]):
        done = subprocess.run(
            [sys.executable, "-B", EXAMPLES / "django_shop" / "manage.py", *command],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
