"""Widths on a terminal, where a Chinese character takes two columns. Imports nothing heavy."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Final
from unicodedata import east_asian_width

_GLUE: Final = "\u200b"
_NO_BREAK_BEFORE: Final = "，。；：、！？）”》"
_NO_BREAK_AFTER: Final = "（“《"

_NARROW: Final = 20


def width(text: str) -> int:
    """Return how many columns a text takes."""
    return sum(1 + _is_wide(c) for c in text)


def padded(text: str, columns: int) -> str:
    """Return a text filled up with blanks to a number of columns."""
    return text + " " * (columns - width(text))


def by_columns(text: str) -> str:
    """Return a text for code that counts characters and breaks at blanks; `restored` undoes it.

    A blank stands for the second column of a wide character, where a line may end.
    """
    parts = []
    for c, following in zip(text, [*text[1:], ""], strict=True):
        breaks = not (following and following in _NO_BREAK_BEFORE) and c not in _NO_BREAK_AFTER
        parts.append(c + (" " if breaks else _GLUE) * _is_wide(c))
    return "".join(parts)


def restored(text: str) -> str:
    """Return a text without what `by_columns` put in."""
    before = " " + text
    return "".join(
        c
        for c, last in zip(text, before, strict=False)
        if c != _GLUE and not (c == " " and _is_wide(last))
    )


def wrapped(text: str, columns: int | None) -> list[str]:
    """Return the lines of a text, each at most so wide; its own if `columns` is None."""
    if columns is None:
        return text.splitlines()
    lines: list[str] = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        found = textwrap.wrap(
            by_columns(line),
            # The second column of the last character is dropped, being a blank.
            max(columns - 1, _NARROW),
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        lines += [restored(part) for part in found] or [""]
    return lines


def terminal_columns() -> int | None:
    """Return the width of the terminal; None where the output is a file, and wraps nowhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _is_wide(character: str) -> bool:
    return east_asian_width(character) in "WF"
