"""Lines fitted to a terminal: broken between words, never within one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

LEAST: Final = 20
"""Columns; a narrower terminal breaks lines by itself."""
_LABEL: Final = re.compile(r" +-> | *\S+(?: \S+)?  +")
_DEEP: Final = 3
"""What continues a line is indented as deep as its text, but not beyond a third of the width."""
_SHALLOW: Final = 4
# Chinese has no blanks to break at; a closing mark begins no line, an opening one ends none.
_WIDE: Final = r"[（「『《]*[\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60][，。；：、）」』》！？]*"
_TIME: Final = r"\d{4}-\d\d-\d\d \d\d:\S+"
_PIECE: Final = re.compile(rf" +|{_TIME}|{_WIDE}|[^ \u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]+|.")


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def fitted(line: str, width: int) -> Iterator[str]:
    """Yield a line in parts of at most `width` columns; what follows the first is indented.

    A word that is wider stands alone and whole, so that it is copied as one: the terminal breaks
    it.
    """
    if width >= LEAST:
        line = _less_indented(line, width // _DEEP)
    if columns(line) <= width or width < LEAST:
        yield line
        return
    label = _LABEL.match(line)
    depth = columns(label[0]) if label else _SHALLOW
    indent = " " * (depth if depth <= width // _DEEP else _SHALLOW)
    now, is_begun = "", False
    for piece in _PIECE.findall(line):
        if is_begun and columns(now + piece) > width:
            yield now.rstrip()
            now, is_begun = indent, False
        if now and not is_begun and piece.isspace():  # a blank between words that are parted
            continue
        is_too_wide = columns(indent + piece) > width
        now, is_begun = piece if is_too_wide and not is_begun else now + piece, True
    if is_begun:
        yield now.rstrip()


def _less_indented(line: str, most: int) -> str:
    text = line.lstrip(" ")
    return line if len(line) - len(text) <= most else " " * _SHALLOW + text


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
