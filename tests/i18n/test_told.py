"""Errors that are made where nothing is translated: people read them in Chinese all the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import smsq
import smsq_worker
from harness.cli import here
from harness.scene import Scene
from smsq import settings as producer_settings
from smsq.contract import parse
from smsq.errors import InvalidMessage, SettingsError
from smsq.ids import parse_id
from smsq.ledger_writer import IN_DOUBT
from smsq_worker import i18n
from smsq_worker.celery_worker.options import refused
from smsq_worker.config.settings import Settings
from smsq_worker.i18n import Lang
from smsq_worker.i18n.told import templates, told

PLACEHOLDER = re.compile(r"\{\w+\}")
HALF = re.compile(r"[a-z]{2,} [a-z]{2,}|[:;](?= |$)")
NOT_WORDS = re.compile(r"`[^`]*`|--[a-z]+ [a-z]+|'[^']*'|[A-Z -]{4,}|_ [.] : -")
GLUED = [
    "must be at least",
    "its value is not allowed",
    "columns unknown",
    "names unknown",
    "reason must be printable text of at most",
    "its reports need its secret",
]
"""What the code makes of two texts; it is raised below, or in the tests of imports."""
FOLDERS = [Path(smsq.__file__).parent, Path(smsq_worker.__file__).parent]


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        (
            "SMSQ_RATE_PER_S: 'x' is not allowed; it takes a number from 0.001 to 10000",
            "SMSQ_RATE_PER_S：'x' 无效，应为：0.001 到 10000 之间的数",
        ),
        (
            "code must be a str of 0 to 500 characters; got 501",
            "code 须为 0 到 500 个字符的文本；实际为 501",
        ),
        ("line 7: not JSON", "第 7 行：不是 JSON"),
        (
            'F: code "MO:1", field pause: "x" is not allowed; it must be one of a, or "" for none',
            'F: code "MO:1"，字段 pause："x" 无效，应为：a 之一，或 "" 表示没有',
        ),
        (
            "SMSQ_ACCOUNTS_FILE: F: accounts.b: vendor '1oo' is unknown; there are 1oc, http",
            "SMSQ_ACCOUNTS_FILE: F: accounts.b：没有名为 '1oo' 的短信平台；可用的有 1oc, http",
        ),
        (
            "--accounts: accounts.b: its url has the port of accounts.a; give each its own",
            "--accounts: accounts.b：其 url 的端口与 accounts.a 相同；须各用各的端口",
        ),
        ("what nobody knows; and that", "what nobody knows; and that"),
        ("", ""),
    ],
)
def test_an_error_is_known_by_its_english_and_kept_where_it_is_not(text: str, chinese: str) -> None:
    assert told(text) == text
    with i18n.speaking(Lang.ZH):
        assert told(text) == chinese


def test_each_template_is_what_the_code_says() -> None:
    """Nobody changes an error without its template, and none stays behind."""
    said = "\n".join(
        str(node.value)
        for folder in FOLDERS
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    said += "\n".join(GLUED)
    for template in templates():
        for part in PLACEHOLDER.split(template):
            # An error may be made of parts, such as a rule and what follows it.
            for words in re.split(r"[;:,] |\(SMSQ_REDIS_URL\)", part):
                assert words.strip(" ;:,") in said, template


MESSAGES: list[dict[str, Any]] = [
    {"phone": 13800138000},
    {"phone": "1380013800"},
    {"phone": "13800138000.0"},
    {"phone": "１3800138000"},
    {"phone": "13800\u200b138000"},
    {"template": ""},
    {"template": " \u3000"},
    {"template": "a\nb"},
    {"template": "a\u200bb"},
    {"code": 482913},
    {"code": "x" * 501},
    {"code": "\ud800"},
    {"lane": "fast"},
    {"lane": None},
    {"ttl_s": 0},
    {"ttl_s": "soon"},
    {"key": ""},
    {"on_ambiguous": "perhaps"},
    {"send_at": "2030-01-31T09:00:00"},
    {"send_at": "soon"},
    {"send_at": True},
    {"reference": "a\x1bb"},
]


def problem_of(check: Callable[[], object]) -> list[str]:
    with pytest.raises((InvalidMessage, SettingsError)) as raised:
        check()
    error = raised.value
    return list(error.problems) if isinstance(error, SettingsError) else [str(error)]


def assert_is_chinese(problems: list[str]) -> None:
    with i18n.speaking(Lang.ZH):
        for problem in problems:
            shown = told(problem)
            assert re.search(r"[\u4e00-\u9fff]", shown), problem
            assert not HALF.search(NOT_WORDS.sub("", shown)), shown


@pytest.mark.parametrize("wrong", MESSAGES, ids=str)
def test_what_is_wrong_with_a_message(wrong: dict[str, Any]) -> None:
    given = {"phone": "13800138000", "template": "SMS_1001", "code": ""} | wrong
    assert_is_chinese(problem_of(lambda: parse((), given)))


def test_what_is_wrong_with_an_id() -> None:
    assert_is_chinese(problem_of(lambda: parse_id("a\nb")))


def test_what_is_wrong_with_any_setting() -> None:
    wrong = {
        name: "\x00"
        for name in producer_settings.names(Settings)
        # Any path is allowed; what is wrong in that file has tests of its own.
        if name not in {"SMSQ_HOME", "SMSQ_ACCOUNTS_FILE"}
    }
    found = problem_of(lambda: Settings.load(wrong))
    assert len(found) >= len(wrong) - 1
    assert_is_chinese(found)


@pytest.mark.parametrize(
    "environ",
    [
        {"SMSQ_REDIS_URL": "redis://host/x"},
        {"SMSQ_RETRY_FIRST_S": "400"},
        {"SMSQ_LEASE_S": "5"},
        {"SMSQ_GATEWAY_URL": "http://10.0.0.7/"},
        {"SMSQ_WEBHOOK_URL": "http://10.0.0.7/"},
        {"SMSQ_RATE_PER_SS": "5"},
        {"SMSQ_DOOR_BIND": "127.0.0.1:1", "SMSQ_API_BIND": "127.0.0.1:2"},
    ],
    ids=str,
)
def test_what_contradicts_itself(environ: dict[str, str]) -> None:
    assert_is_chinese(problem_of(lambda: Settings.load(environ)))
    assert_is_chinese(problem_of(lambda: Settings.load({}, need=("report_token",))))


def test_options_of_a_worker() -> None:
    assert_is_chinese(refused(["--pool", "solo", "--autoscale", "9,1", "--purge", "-Q", "sms.opt"]))


def test_a_ledger_that_is_away_and_what_is_unknown_then() -> None:
    away = "the ledger at redis://h:1/0 (SMSQ_REDIS_URL) did not answer: Error 111"
    with i18n.speaking(Lang.ZH):
        assert told(away + IN_DOUBT) == (
            "账本 redis://h:1/0（SMSQ_REDIS_URL）无响应：Error 111；"
            "消息是否已写入不得而知：请用相同的 key 或 task_id 重试"
        )


@pytest.mark.parametrize(
    "words",
    [
        ("codes", "MA:0001", "--seen"),
        ("explain", "x", "--show-number"),
        ("functions", "drop", "x"),
        ("held", "drop"),
        ("held", "drop", "x"),
        ("notices", "drop"),
        ("notices", "replay", "a\nb"),
        ("pause", "breaker"),
        ("pause", "template"),
        ("pause", "acount"),
        ("pause", "--reason", "a\nb"),
        ("rate", "x"),
        ("rate", "--burst", "5"),
        ("rate", "5", "--reset"),
        ("resume",),
        ("sandbox", "--json"),
        ("send", "12", "SMS_1001"),
        ("send-file", "/nowhere"),
        ("send-file", "/nowhere", "--dry-run", "--wait"),
        ("send-file", "/nowhere", "--key-prefix", ""),
        ("status", "x"),
        ("status", "x", "--watch", "1"),
        ("suppressed", "add", "12", "13800138000"),
        ("suppressed", "add", "13800138000", "--until", "x"),
        ("suppressed", "add", "13800138000", "--until", "2020-01-01"),
        ("suppressed", "add", "13800138000", "--until", "2020-01-01", "--days", "3"),
        ("suppressed", "import", "/nowhere"),
        ("suppressed", "export", "/nowhere/x"),
        ("suppressed", "remove", "13800138000"),
    ],
    ids="-".join,
)
def test_a_refusal_is_chinese(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    del scene  # The ledger is empty.
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    code, out, errors = here(monkeypatch, capsys, *words)
    assert code in {1, 2}
    line = (out + errors).splitlines()[-1].removeprefix("smsq: ")
    assert re.search(r"[\u4e00-\u9fff]", line), line
    strerror = "No such file or directory"
    assert not HALF.search(re.sub(rf"smsq [a-z]+( [a-z]+)?|{strerror}", "", line)), line
