"""Chinese for people, English for machines: which language a command line speaks, and all of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module

import click
import pytest

from harness.cli import here
from harness.scene import DELIVRD, Scene, stat
from smsq_worker import cli, i18n
from smsq_worker.cli.helpers.layout import by_columns, padded, restored, width, wrapped
from smsq_worker.cli.helpers.translated_help import HelpContext
from smsq_worker.cli.views import explain_lines as view
from smsq_worker.domain.codes import Catalogue
from smsq_worker.domain.states import Outcome
from smsq_worker.i18n import Lang
from smsq_worker.infra import logs

ENGLISH = re.compile(r"[a-z]{2,}(?: [a-z]{2,}){2,}")
"""Three words of prose in a row."""
COMMANDS = re.compile(r"`[^`]*`|smsq [a-z -]+|--[a-z-]+ ?\w*")


@pytest.mark.parametrize(
    ("environ", "lang"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LC_ALL": "zh_CN", "LC_MESSAGES": "en_GB.UTF-8", "LANG": "C"}, "zh"),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "fr:de"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "fr"}, "zh"),
        # Whoever asks for no language means it.
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8", "LANGUAGE": "zh_CN"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANGUAGE": "zh_CN"}, "en"),
        ({"LC_ALL": "POSIX", "LANGUAGE": "zh_CN"}, "en"),
    ],
)
def test_the_environment_chooses_as_gettext_does(environ: dict[str, str], lang: str) -> None:
    assert Lang.of(environ) == lang


@pytest.mark.parametrize(
    "words", [("--lang", "zh", "held", "xyzzy"), ("held", "--lang", "zh", "xyzzy")]
)
def test_lang_goes_before_and_behind_the_name_of_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    code, _, errors = here(monkeypatch, capsys, *words)
    assert code == 2
    assert errors.splitlines()[-1] == "错误：没有命令 'xyzzy'。"


def test_what_a_command_line_chose_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    here(monkeypatch, capsys, "codes", "MA:0001", "--lang", "zh")
    assert (i18n.language(), os.environ["LANGUAGE"]) == (Lang.EN, "de")


def test_json_and_logs_are_english_under_a_chinese_locale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scene: Scene
) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", DELIVRD)
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    told = json.loads(here(monkeypatch, capsys, "explain", "m1", "--json", "--lang", "zh")[1])
    assert told["words"] == "a report says that it reached the phone"
    assert told["state"] == "delivered"
    assert told["at"].endswith("+00:00")
    with i18n.speaking(Lang.ZH):
        logs.to_stderr("json")
        assert i18n.language() is Lang.EN


def helps() -> Iterator[tuple[str, str]]:
    """Give each command's help in Chinese. They are imported before, as click's types are named
    in the language of that moment."""
    for name in cli.COMMANDS:
        import_module(f"smsq_worker.cli.commands.{name.replace('-', '_')}")
    with i18n.speaking(Lang.ZH):
        root = cli.group()
        yield from below(root, HelpContext(root, info_name="smsq", terminal_width=78))


def below(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, context.get_help()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.resolve_command(context, [name])[1]
            assert inner is not None
            assert inner.context_class is HelpContext
            inside = HelpContext(inner, parent=context, info_name=name, terminal_width=78)
            yield from below(inner, inside)


@pytest.mark.parametrize(("name", "text"), list(helps()), ids=lambda text: text[:30])
def test_a_commands_help_is_chinese_and_fits_the_terminal(name: str, text: str) -> None:
    prose, _, examples = text.partition("示例：")
    assert not ENGLISH.search(COMMANDS.sub("", prose)), prose
    assert "\u200b" not in text
    for line in prose.splitlines():
        assert width(line) <= 80, line
    assert examples or name == "smsq"
    assert "Examples" not in text


def waits(scene: Scene) -> None:
    scene.call("m1", Outcome.MAYBE_SENT, detail="ReadTimeout")


def fails(scene: Scene) -> None:
    scene.enter(notify="shop.tasks.done", reference="order 7", lane="otp")
    scene.go()
    scene.record("m1", Outcome.NOT_SENT, detail="ConnectTimeout")
    scene.run_out()
    scene.accept()
    scene.report("m1", stat("MA:0001", "permanent"))


def is_held(scene: Scene) -> None:
    scene.enter(on_ambiguous="hold")
    scene.go()
    scene.record("m1", Outcome.MAYBE_SENT)


def is_refused(scene: Scene) -> None:
    scene.call("m1", Outcome.REFUSED, detail="gateway:400 校验失败")


def is_queued(scene: Scene) -> None:
    scene.enter("m0")
    scene.enter()
    scene.control.pause("account", "")


def goes_again(scene: Scene) -> None:
    scene.call("m1", Outcome.ACCEPTED, detail="")
    scene.report("m1", stat("MO:0254", "transient", 60, maybe_sent=True))


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("happens", [waits, fails, is_held, is_refused, is_queued, goes_again])
def test_a_story_is_chinese_in_every_line_and_fits_the_terminal(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    happens: object,
    columns: int,
) -> None:
    assert callable(happens)
    happens(scene)
    monkeypatch.setattr(view, "terminal_columns", lambda: columns)
    code, out, errors = here(monkeypatch, capsys, "explain", "m1", "--lang", "zh")
    assert (code, errors) == (0, "")
    for line in out.splitlines():
        assert width(line) <= columns, line
        assert not re.search(r"[a-z]{3,} [a-z]{3,}", COMMANDS.sub("", line.replace("order 7", "")))
        assert not re.search(r"\b(delivered|failed|queued|accepted|deferred|expired)\b", line), line
        assert not re.search(r"[:;,](?= |$)", line), line


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_code_is_explained_in_one_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lang: str
) -> None:
    for code in ("MA:0001", "MA:0015", "MA:0024", "MO:0008", "MO:1234", "DELIVRD", "ACCEPTD"):
        _, out, _ = here(monkeypatch, capsys, "codes", code, "--lang", lang)
        for line in out.splitlines()[1:]:
            assert bool(re.search(r"[\u4e00-\u9fff]", line)) == (lang == "zh"), line


@pytest.mark.parametrize("written", ["400", "gateway:400", "校验失败"])
@pytest.mark.parametrize(
    ("lang", "told"),
    [
        ("en", "most often because SMSQ_APP_SECRET is wrong"),
        ("zh", "多半因为 SMSQ_APP_SECRET 有误"),
    ],
)
def test_the_answer_to_a_wrong_secret_is_explained_by_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    written: str,
    lang: str,
    told: str,
) -> None:
    code, _, errors = here(monkeypatch, capsys, "codes", written, "--lang", lang)
    assert code == 1
    assert told in errors


def test_a_chinese_character_takes_two_columns() -> None:
    assert width("mid：无") == 7
    assert padded("号码", 6) == "号码  "
    for code in Catalogue.load():
        assert restored(by_columns(code.zh)) == code.zh
    text = "网关已受理，mid 1151894566D2EDD9，按 SMSQ_REPORT_WAIT_S 等待状态报告（回执）。"
    lines = wrapped(text, 40)
    assert all(width(line) <= 40 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert not any(line[0] in "，。（" and line[0] != "（" for line in lines)
    assert wrapped(text, 0) == [text]
