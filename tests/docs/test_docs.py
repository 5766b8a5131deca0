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

from harness.backend import run
from harness.documents import README, blocks, page, rows
from harness.paths import ROOT
from smsq.contract import signature_of_send_sms
from smsq_worker.api.clients import Callers
from smsq_worker.config.settings import Settings
from smsq_worker.domain.states import NEXT

EXAMPLES = {
    f"{name} {number}": code
    for name in ("README.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")))
    for number, code in enumerate(blocks((ROOT / name).read_text(encoding="utf-8"), "python"))
}
# What calls an example that only defines something.
CALLS = {
    "docs/guides/callbacks.md 0": """
import base64, time
from smsq_worker.callbacks.signing import event, signed

body = event({"id": "m1", "state": "delivered", "finished_at": "2026-01-01", "reference": "r1"})
key = base64.b64decode("c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2g=")
sms_ended(body, signed([key], "m1:delivered", int(time.time()), body))  # message.delivered
"""
}


def test_the_state_table_is_that_of_the_code() -> None:
    table = {
        before: set(filter(None, to.split(", ")))
        for before, to in rows(page("reference/states.md"), "| from | to |")
    }
    assert table == {str(before): {str(s) for s in after} for before, after in NEXT.items()}


def test_the_settings_are_those_of_the_code() -> None:
    table = {
        name.strip("`"): default.strip("`")
        for name, default, _ in rows(page("reference/settings.md"), "| name | default | meaning |")
    }
    assert set(table) == {spec.metadata["env"] for spec in fields(Settings)}
    for spec in fields(Settings):
        told = table[spec.metadata["env"]]
        if told not in {"none", "the above", "system CAs"}:
            assert spec.metadata["parse"](told) == spec.default, spec.name


def test_the_arguments_are_those_of_the_code() -> None:
    table = [
        row[0].strip("`")
        for row in rows(page("guides/send.md"), "| argument | meaning | default |")
    ]
    assert table == list(signature_of_send_sms.__annotations__)[:-1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_python_examples_print_what_their_last_comment_says(
    client: redis.Redis, environ: dict[str, str], name: str
) -> None:
    example = EXAMPLES[name] + CALLS.get(name, "")
    shown = re.findall(r"# (\S+)[^#]*$", example)[-1].rstrip(";")
    assert run(example, environ).split()[-1] == shown


def test_the_conftest_example_keeps_tests_off_the_redis_of_the_environment(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    """With `smsq` imported where tests import it: before any fixture has run."""
    _, conftest = blocks(page("guides/testing.md"), "py")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_shop.py").write_text(
        "from smsq import send_sms, status\n\n"
        "def test_it() -> None:\n"
        "    result = send_sms.delay('13800138000', 'SMS_1001')\n"
        "    assert status(result.id).state == 'queued'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert client.dbsize() == 0


def test_the_callers_example_is_taken(tmp_path: Path) -> None:
    (example,) = blocks(page("guides/http-api.md"), "toml")
    callers = tmp_path / "callers.toml"
    callers.write_text(example)
    shop = Callers.load(callers, "").find("at least 16 characters")
    assert shop is not None
    assert (shop.name, shop.lanes, shop.rate_per_s) == ("shop", ("otp", "notice"), 5)


def test_the_shell_examples_run(client: redis.Redis, environ: dict[str, str]) -> None:
    (example,) = blocks(page("quickstart.md"), "sh")
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

    (example,) = blocks(page("reference/codes.md"), "toml")
    override = tmp_path / "codes.toml"
    override.write_text(example)
    assert Catalogue.load(override).classify("MO:0042").code_class == "transient"


PAGES = "".join(found.read_text(encoding="utf-8") for found in ROOT.glob("docs/**/*.md"))
SPANS = {"call", "report", "tell"}
NAMED = {*re.findall(r"`smsq ([a-z-]+)", README + PAGES)} - SPANS


@pytest.mark.parametrize("command", sorted(NAMED))
def test_the_commands_named_are_there(command: str) -> None:
    from smsq_worker.cli import COMMANDS

    assert command in COMMANDS


@pytest.mark.parametrize("start", ["docs/index.md", "README.md", "README.zh-CN.md", "mkdocs.yml"])
def test_every_guide_is_found_from_where_people_start(start: str) -> None:
    told = (ROOT / start).read_text()
    guides = {f"guides/{one.name}" for one in (ROOT / "docs" / "guides").glob("*.md")}
    assert not {one for one in guides if one not in told}
