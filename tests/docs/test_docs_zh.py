"""The Chinese README says what README.md says: a failure names what to change in it."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from harness.documents import README
from harness.paths import ROOT

CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
TO_CHINESE = "English | [简体中文](README.zh-CN.md)"
TO_ENGLISH = "[English](README.md) | 简体中文"

FENCE = re.compile(r"^ *```(?:.*?)^ *```$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
PHONE = re.compile(r"(?<!\d)1[3-9](?:[ -]?\d){9}(?!\d)")
# The cells with words in them; all others are the same in both.
WORDS = {"Celery alone": "只用 Celery"}


class Section(NamedTuple):
    """A heading, and what stands under it until the next."""

    level: int
    title: str
    text: str


def sections(text: str) -> list[Section]:
    """Give a document's sections; a line of code that begins with # is none."""
    code = [fence.span() for fence in FENCE.finditer(text)]
    heads = [
        head
        for head in re.finditer(r"^(#+) (.*)$", text, re.MULTILINE)
        if not any(start < head.start() < end for start, end in code)
    ]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        Section(len(head[1]), head[2], text[head.end() : end])
        for head, end in zip(heads, ends, strict=True)
    ]


def code_of(text: str) -> list[str]:
    """Give the blocks of code without their comments and the words on a diagram's arrows.

    What a screen shows is in the reader's language: tests/end_to_end/test_redo.py has it.
    """
    blocks = [block[0] for block in FENCE.finditer(text) if not block[0].startswith("```text")]
    found = [re.sub(r"(^|\s+)#.*", "", block) for block in blocks]
    return [re.sub(r"^( +\S+ --> \w+): .*", r"\1:", block, flags=re.MULTILINE) for block in found]


def pieces(text: str) -> list[str]:
    """Give the paragraphs, points and rows, without those only the Chinese README has (>)."""
    found = re.split(r"\n\s*\n|\n(?=- |\|)", FENCE.sub("", text))
    return [
        piece.strip() for piece in found if piece.strip() and not piece.lstrip().startswith(">")
    ]


def facts(piece: str) -> set[str]:
    """What a piece names that is the same in every language: code, numbers, links, images."""
    links = {"".join(link) for link in LINK.findall(piece)}
    rest = LINK.sub("", piece)
    spans = {" ".join(span.split()) for span in SPAN.findall(rest)}
    return links | spans | set(NUMBER.findall(SPAN.sub("", rest)))


def columns(text: str) -> list[list[str]]:
    """Give the first column, and that of the defaults, of each table, with their headers."""
    found = []
    for table in TABLE.findall(text):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
        told = [i for i, name in enumerate(rows[0]) if i == 0 or name in {"default", "默认值"}]
        found += [[row[i] for row in rows] for i in told]
    return found


PAIRS = [
    pytest.param(english, chinese, id=english.title)
    for english, chinese in zip(
        sections(README.replace(TO_CHINESE, "")),
        sections(CHINESE.replace(TO_ENGLISH, "")),
        strict=False,
    )
]


def test_each_leads_to_the_other_under_its_title() -> None:
    assert README.splitlines()[2] == TO_CHINESE
    assert CHINESE.splitlines()[2] == TO_ENGLISH


def test_the_headings_are_as_many_and_of_the_same_levels() -> None:
    english, chinese = sections(README), sections(CHINESE)
    assert [s.level for s in chinese] == [s.level for s in english], [s.title for s in english]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_has_the_same_code_but_for_comments(english: Section, chinese: Section) -> None:
    assert code_of(chinese.text) == code_of(english.text)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_has_the_same_names_and_defaults_in_its_tables(
    english: Section, chinese: Section
) -> None:
    wanted = [[WORDS.get(cell, cell) for cell in column] for column in columns(english.text)]
    assert columns(chinese.text) == wanted


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_a_section_names_the_same_things_paragraph_by_paragraph(
    english: Section, chinese: Section
) -> None:
    theirs, ours = pieces(english.text), pieces(chinese.text)
    for told, translated in zip(theirs, ours, strict=False):
        lacks, adds = facts(told) - facts(translated), facts(translated) - facts(told)
        assert not lacks | adds, f"lacks {lacks}, adds {adds}: {translated}\nREADME.md: {told}"
    assert len(ours) == len(theirs)


def test_every_number_is_the_example() -> None:
    assert {re.sub("[ -]", "", phone) for phone in PHONE.findall(README + CHINESE)} == {
        "13800138000"
    }
