"""The parts of which a script's text consists: what each names, uses, and whether it stays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

PARTS: Final = re.compile(r"^(local .*\n(?:(?:[ \t].*)?\n)*(?:(?:end|}).*\n)?)", re.MULTILINE)
"""A `local` at the beginning of a line, with the indented lines after it and its end."""
_LOCAL: Final = re.compile(r"local (?:function (\w+)|([\w, ]+))")
_NO_NAMES: Final = re.compile(r"--.*|'[^'\n]*'|(?<!\.)[.:]\w+")
_WORD: Final = re.compile(r"\w+")


def used(shared: Iterable[str], act: str) -> list[str]:
    """Return the parts of shared files that an act uses, in order.

    What is between parts is always used.
    """
    parts = [part for file in shared for part in PARTS.split(file) if part]
    names = [_names(part) for part in parts]
    words, is_used = _words(act), [not of_part for of_part in names]
    words.update(*(_words(part) for part, used in zip(parts, is_used, strict=True) if used))
    while new := [n for n, of_part in enumerate(names) if not is_used[n] and of_part & words]:
        for n in new:
            is_used[n] = True
            words |= _words(parts[n])
    return [part for part, used in zip(parts, is_used, strict=True) if used]


def is_kept(part: str) -> bool:
    """Return whether a part is a function or a constant, and so the same in each call."""
    found = _LOCAL.match(part)
    return bool(found and (found[1] or found[2].isupper()))


def _names(part: str) -> set[str]:
    found = _LOCAL.match(part)
    return set(_WORD.findall(found[1] or found[2])) if found else set()


def _words(text: str) -> set[str]:
    """Return the names that a text uses, without those in comments and strings, and of fields."""
    return set(_WORD.findall(_NO_NAMES.sub(" ", text)))
