"""mypy --strict and pyright take what the docs and the examples write, and refuse mistakes."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.checkers import Mistake, mypy, pyright, users_python
from harness.paths import ROOT

CHECKERS: dict[str, Callable[..., list[Mistake]]] = {"mypy": mypy, "pyright": pyright}
Checked = tuple[str, list[Mistake]]
PAGES = (*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md"))
EXAMPLES = sorted({path.parent for path in ROOT.glob("examples/*/*.py")})
_BLOCK = re.compile(r"^( *)```(?:python|py)\b[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)

BACKEND = "backend.py"
MISTAKES = """\
# pyright: strict
from smsq import Row, SendResult, astatus, cancel, send_many, send_sms, status

result: SendResult = send_sms.delay("13800138000", "SMS_1001", lane="otp", key="k")
again: SendResult = send_sms.AsyncResult(result.id)
send_sms.delay("13800138000", "SMS_1001", lane="opt")  # arg-type reportArgumentType
send_sms.delay("13800138000", "SMS_1001", on_ambiguous="no")  # arg-type reportArgumentType
send_sms.delay("13800138000", "SMS_1001", 482913)  # arg-type reportArgumentType
send_sms.delay("13800138000", "SMS_1001", ttl=60)  # call-arg reportCallIssue
send_many([], lane="blk")  # arg-type reportArgumentType
row: Row = {"phone": "13800138000", "template": "SMS_1001", "lane": "otp"}
bad: Row = {"phone": "1", "template": "T", "lane": "opt"}  # typeddict-item reportAssignmentType
few: list[Row] = [{"phone": "13800138000"}]  # typeddict-item reportAssignmentType
send_many([row, bad, *few, {"phone": "13800138000", "template": "SMS_1001"}])
send_many(few)
print(cancel("m1").answer)  # union-attr reportOptionalMemberAccess
print(status("m1").state)  # union-attr reportOptionalMemberAccess
print(result.state == "deliverd")  # comparison-overlap reportUnnecessaryComparison
print(result.get(5).state == "SUCCESS")  # comparison-overlap reportUnnecessaryComparison
print(result.get(5).lane == "opt")  # comparison-overlap reportUnnecessaryComparison
print(result.info.state)  # union-attr reportOptionalMemberAccess
result.get()  # call-arg reportCallIssue
result.wait(5, until="sent")  # arg-type reportArgumentType
send_sms.delay("13800138000", "SMS_1001", lane=result.get(5).lane)


async def login() -> None:
    found = await (await send_sms.adelay("13800138000", "SMS_1001", lane="otp")).aget(5)
    await send_sms.adelay("13800138000", "SMS_1001", lane="opt")  # arg-type reportArgumentType
    print(found.state == "deliverd")  # comparison-overlap reportUnnecessaryComparison
    print((await astatus("m1")).state)  # union-attr reportOptionalMemberAccess


print(again.state == "delivered", again.get(5, until="accepted").state == "accepted")
"""
"""Calls of a backend: mypy's and pyright's rule for a line that must not pass."""


def python_blocks(page: Path) -> dict[str, str]:
    """Return a page's Python as files, each line in its place; a block without import goes on."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        code = textwrap.dedent(block[2]).splitlines()
        if not lines or any(line.startswith(("import ", "from ")) for line in code):
            name = re.sub(r"\W", "_", f"{page.relative_to(ROOT).with_suffix('')}_{len(found)}")
            lines = found[f"{name}.py"] = []
        lines += [""] * (text.count("\n", 0, block.start(2)) - len(lines)) + code
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def test_the_docs_have_python_to_check() -> None:
    names = {name for page in PAGES for name in python_blocks(page)}
    assert {"README_0.py", "docs_guides_send_0.py", "docs_zh_manual_0.py"} <= names


@pytest.fixture(scope="module", params=CHECKERS)
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Run a checker over all of it at once."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / BACKEND).write_text(MISTAKES)
    for page in PAGES:
        for name, code in python_blocks(page).items():
            (folder / name).write_text(code, encoding="utf-8")
    return request.param, CHECKERS[request.param](folder)


def test_every_python_block_of_the_docs_is_well_typed(checked: Checked) -> None:
    assert [one for one in checked[1] if one.file != BACKEND] == []


def test_a_backends_mistakes_are_found(checked: Checked) -> None:
    checker, found = checked
    assert_found(checker, [one for one in found if one.file == BACKEND])


@pytest.mark.parametrize("checker", CHECKERS)
def test_they_are_found_without_stubs_for_celery(tmp_path: Path, checker: str) -> None:
    (tmp_path / BACKEND).write_text(MISTAKES)
    assert_found(checker, CHECKERS[checker](tmp_path, [BACKEND], users_python(tmp_path / "user")))


def assert_found(checker: str, found: list[Mistake]) -> None:
    expected = {
        (n, rules.split()[[*CHECKERS].index(checker)])
        for n, line in enumerate(MISTAKES.splitlines(), start=1)
        if (rules := line.partition("  # ")[2])
    }
    assert {(one.line, one.rule) for one in found} == expected, found


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_examples_are_well_typed(tmp_path: Path, checker: str) -> None:
    for example in EXAMPLES:
        # What a checker writes is no part of it.
        copy = shutil.copytree(example, tmp_path / example.name)
        assert CHECKERS[checker](copy) == [], example.name
