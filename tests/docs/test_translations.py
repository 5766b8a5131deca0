"""The Chinese catalogue is whole: every message is translated, with its placeholders, and used."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Message

from harness.paths import ROOT
from smsq_worker import i18n
from smsq_worker.i18n import Lang, _, ngettext, pgettext

MARKS = {"_", "N_", "ngettext", "pgettext"}


@pytest.fixture(scope="module")
def translations() -> ModuleType:
    folder = str(ROOT / "docs")
    if folder not in sys.path:
        sys.path.append(folder)
    import translations

    return translations


def test_everything_is_translated_and_nothing_is_left_over(translations: ModuleType) -> None:
    assert list(translations.problems()) == []


def test_marked_words_helps_and_clicks_own_messages_are_found(translations: ModuleType) -> None:
    found = {(message.context, message.id) for message in translations.extracted()}
    assert (None, "it certainly was not sent") in found
    assert ("state", "delivered") in found
    assert (None, "Print JSON.") in found
    assert (None, "Show this message and exit.") in found
    assert (None, "by the gateway's mid") in found


def test_no_marked_text_is_within_an_f_string_where_it_is_not_found() -> None:
    lost = [
        f"{path.name}: {ast.unparse(call)}"
        for path in Path(i18n.__file__).parent.rglob("*.py")
        for text in ast.walk(ast.parse(path.read_text()))
        if isinstance(text, ast.JoinedStr)
        for call in ast.walk(text)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in MARKS
        if isinstance(call.args[0], ast.Constant)
    ]
    assert lost == []


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Message("so", ""), "has no translation"),
        (Message("{a} and {b}", "{a} 和"), "has not the same placeholders"),
        (Message("{a}", "{a} 和 {b}"), "has not the same placeholders"),
        (Message(("{n} by {a}", "{n} by {a}"), ("{n} 条",)), "has not the same placeholders"),
        (Message("it ends as failed", "置为 failed"), "leaves states in English (failed)"),
        (Message("it is held", "已 held，见 smsq held"), "leaves states in English (held)"),
    ],
)
def test_a_wrong_translation_is_found(
    translations: ModuleType, message: Message, problem: str
) -> None:
    (found,) = translations._wrong(message)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "message",
    [
        Message("{a} and {b:.2f}", "{b:.2f} 和 {a}"),
        Message(("{n} message", "{n} messages"), ("{n} 条消息",)),
        Message("drop it: smsq held drop {id}", "放弃：smsq held drop {id}"),
    ],
)
def test_a_right_one_is_not(translations: ModuleType, message: Message) -> None:
    assert list(translations._wrong(message)) == []


def test_the_catalogue_speaks_where_it_is_installed() -> None:
    with i18n.speaking(Lang.ZH):
        assert _("attempt {n}: {result}", n=2, result="x") == "第 2 次提交：x"
        assert ngettext(
            "; {n} try, the last: {error}", "; {n} tries, the last: {error}", 1, error="x"
        ) == ("；已尝试 1 次，最近一次：x")
        assert pgettext("state", "held") == "挂起待人工"
    assert _("attempt {n}: {result}", n=2, result="x") == "attempt 2: x"
