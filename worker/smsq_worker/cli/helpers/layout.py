"""Lines on a terminal, where a Chinese character takes two columns. Imports nothing heavy.

They are broken between words, never within one.
"""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

LEAST: Final = 20
"""Columns; a narrower terminal breaks lines where it likes."""
_LABEL: Final = re.compile(r" +-> | *\S+(?: \S+)?  +")
_DEEP: Final = 3
"""What continues a line is indented as deep as its text, but not beyond a third of the width."""
_SHALLOW: Final = 4
# Chinese has no blanks to break at; a closing mark begins no line, an opening one ends none.
_OPENING: Final = "（“「『《"
_CLOSING: Final = "，。；：、）”」』》！？"
_IS_WIDE: Final = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60"
_TIME: Final = r"\d{4}-\d\d-\d\d \d\d:\S+"
_PIECE: Final = re.compile(
    rf" +|{_TIME}|[{_OPENING}]*[{_IS_WIDE}][{_CLOSING}]*|[^ {_IS_WIDE}]+[{_CLOSING}]*|."
)
_GLUE: Final = "\u200b"


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def padded(text: str, columns: int) -> str:
    """Return a text filled up with blanks to a number of columns."""
    return text + " " * (columns - width(text))


def table(rows: Sequence[Sequence[str]], *, left: int = sys.maxsize) -> Iterator[str]:
    """Yield rows as lines; of their columns this many are flush left, the others right."""
    widths = [max(map(width, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            padded(cell, most) if n < left else " " * (most - width(cell)) + cell
            for n, (cell, most) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def fitted(line: str, columns: int) -> Iterator[str]:
    """Yield a line in parts of at most this many columns; what follows the first is indented.

    A word that is wider stands alone and whole, so that it is copied as one: the terminal breaks
    it.
    """
    if columns >= LEAST:
        line = _less_indented(line, columns // _DEEP)
    if width(line) <= columns or columns < LEAST:
        yield line
        return
    label = _LABEL.match(line)
    depth = width(label[0]) if label else _SHALLOW
    yield from _parts(line, columns, " " * (depth if depth <= columns // _DEEP else _SHALLOW))


def wrapped(text: str, columns: int) -> list[str]:
    """Return the lines of a text, each at most so wide; its own if `columns` is 0."""
    if not columns:
        return text.splitlines()
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        lines += [*_parts(line, max(columns, LEAST), indent)] or [""]
    return lines


def terminal_columns(*, err: bool = False) -> int:
    """Return the columns of the terminal; 0 where there is none: a line stays one for grep."""
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    return shutil.get_terminal_size().columns if is_terminal else 0


def by_columns(text: str) -> str:
    """Return a text for code that counts characters and breaks at blanks; `restored` undoes it.

    A blank stands for the second column of a wide character, where a line may end.
    """
    parts = []
    for c, following in zip(text, [*text[1:], ""], strict=True):
        breaks = not (following and following in _CLOSING) and c not in _OPENING
        parts.append(c + (" " if breaks else _GLUE) * (_columns(c) - 1))
    return "".join(parts)


def restored(text: str) -> str:
    """Return a text without what `by_columns` put in."""
    before = " " + text
    return "".join(
        c
        for c, last in zip(text, before, strict=False)
        if c != _GLUE and not (c == " " and _columns(last) > 1)
    )


def _parts(line: str, columns: int, indent: str) -> Iterator[str]:
    """Yield a line in parts; `indent` begins what follows the first."""
    now, is_begun = "", False
    for piece in _PIECE.findall(line):
        if is_begun and width(now + piece) > columns:
            yield now.rstrip()
            now, is_begun = indent, False
        if now and not is_begun and piece.isspace():  # a blank between words that are parted
            continue
        is_too_wide = width(indent + piece) > columns
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
