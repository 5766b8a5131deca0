"""The Chinese manual says what the code says: its tables, its files, its commands."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest
import redis

from harness.documents import blocks, page, rows
from harness.paths import ROOT
from smsq import keys
from smsq.contract import State, signature_of_send_sms
from smsq.errors import SmsqError
from smsq_worker.api.clients import Callers
from smsq_worker.cli import group
from smsq_worker.domain.codes import Catalogue

MANUAL = page("zh/manual.md")
CALLERS, CODES = blocks(MANUAL, "toml")
(LIST,) = blocks(MANUAL, "csv")
# As `smsq codes` and `smsq send-file x --wait` stand in a text or in a block of code.
COMMAND = re.compile(r"(?:`|^)smsq ([a-z][^`\n|;#]*)", re.MULTILINE)
GUIDES = ("README.md", "README.zh-CN.md", "docs/zh/manual.md")
SPANS = {"call", "report", "tell"}
"""What stands there as a name of a trace's span."""
ANYWHERE = {"--lang"}


def test_the_arguments_are_those_of_the_code() -> None:
    told = [row[0].strip("`") for row in rows(MANUAL, "| 参数 | 含义 | 默认值 |")]
    assert told == list(signature_of_send_sms.__annotations__)[:-1]


def test_the_states_and_the_errors_are_those_of_the_code() -> None:
    states = [row[0].strip("`") for row in rows(MANUAL, "| 状态 | 名称 | 含义 |")]
    assert sorted(states) == sorted(State)
    errors = {row[0].strip("`") for row in rows(MANUAL, "| 异常 | 含义 |")}
    assert errors == {row[0].strip("`") for row in rows(page("guides/send.md"), "| error |")}
    assert SmsqError.__name__ in MANUAL


def test_the_files_that_one_writes_are_taken(tmp_path: Path) -> None:
    (tmp_path / "callers.toml").write_text(CALLERS, encoding="utf-8")
    shop = Callers.load(tmp_path / "callers.toml", "").find("at least 16 characters")
    assert shop is not None
    assert (shop.lanes, shop.rate_per_s) == (("otp", "notice"), 5)
    (tmp_path / "codes.toml").write_text(CODES, encoding="utf-8")
    catalogue = Catalogue.load(tmp_path / "codes.toml")
    assert catalogue.classify("MO:0042").code_class == "transient"
    assert catalogue.classify("MA:0001").suppress_lanes == ()


def test_the_days_list_is_imported_for_campaigns_alone(
    client: redis.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    (line,) = [one for one in blocks(MANUAL) if "suppressed import" in one]
    smsq, *words, file = line.split()
    (tmp_path / file).write_text(LIST, encoding="gb18030")
    command = [Path(sys.executable).parent / smsq, *words, file]
    subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, check=True)
    (entry,) = map(json.loads, client.hvals(keys.SUPPRESSED))
    assert entry["lanes"].keys() == {"bulk"}
    assert entry["lanes"]["bulk"]["reason"] == "退订"


def test_the_rates_by_template_and_batch_can_be_asked_for() -> None:
    (query,) = blocks(re.sub(r"(?m)^  ", "", MANUAL), "sql")
    table = sqlite3.connect(":memory:")
    table.execute("CREATE TABLE sms_result (id, state, template, reference, accepted_at)")
    ends = ["delivered", "delivered", "failed", "unreported"]
    sent = [(n, end, "SMS_1001", "may", "2026-05-01") for n, end in enumerate(ends)]
    table.executemany(
        "INSERT INTO sms_result VALUES (?, ?, ?, ?, ?)",
        [*sent, (9, "failed", "SMS_1001", "may", None)],
    )
    assert table.execute(query).fetchall() == [("SMS_1001", "may", 4, 0.5, 0.75)]


@pytest.mark.parametrize("name", GUIDES)
def test_the_commands_are_there_with_their_options(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = {*COMMAND.findall(text)} - SPANS
    assert lines
    for line in lines:
        command, words = _resolved(line.split())
        assert command.name != "smsq", line
        known = ANYWHERE.union(*(option.opts for option in command.params))
        options = {word for word in words if word.startswith("--")}
        assert command.name in {"worker", "flower"} or options <= known, line


def _resolved(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = group()
    context = click.Context(command)
    while isinstance(command, click.Group) and words and words[0] in command.list_commands(context):
        _name, below, words = command.resolve_command(context, words)
        assert below is not None
        command = below
    return command, words
