"""Foreign text on a terminal and in a log: nothing in it acts there, and nothing in it hides."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters by category, and yet nothing is seen of them."""
_STRUCTURE: Final = re.compile("[^\n -~]")


def escaped(text: str) -> str:
    r"""Return a text in which what is obeyed or not seen is an escape, like \x1b or \u202e.

    That is controls, line breaks, overrides of the direction, zero-width characters, halves of
    surrogate pairs and what Unicode has not assigned. The blanks of other scripts stay.
    """
    if text.isprintable() and (text.isascii() or _BLANK_LETTERS.isdisjoint(text)):
        return text
    return "".join(
        char.encode("unicode_escape").decode() if _is_hidden(char) else char for char in text
    )


def json_text(value: Any, *, indent: int | None = None, default: Any = None) -> str:
    """Return a value as JSON that a terminal can show: Chinese is readable, the above escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=default)
    return _STRUCTURE.sub(_json_escape, text)


def _is_hidden(char: str) -> bool:
    if char.isprintable():
        return char in _BLANK_LETTERS
    return unicodedata.category(char) != "Zs"


def _json_escape(found: re.Match[str]) -> str:
    char = found[0]
    return json.dumps(char)[1:-1] if _is_hidden(char) else char
