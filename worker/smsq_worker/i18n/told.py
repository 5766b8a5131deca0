"""Errors in the language of now: known by their English, which JSON and logs show.

They are made where nothing is translated: in the producer, which needs no catalogue, in settings
and in files. So a text is looked up by its template, which says what is fixed in it. The catalogue
has them under a context of their own.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from smsq_worker.i18n import Lang, catalogue, language, translate

CONTEXT: Final = "told"
"""Of the templates in the catalogue; a placeholder stands for what differs."""
_FRAMES: Final = (
    "{what}; did you mean {hint}?",
    "line {line}: {why}",
    "PHONE {n} of {most}: {why}",
)
"""What is around any of the others. Of those the one fits in which the most is fixed."""
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_NUMBERS: Final = re.compile(r"n|line|least|most")
"""Placeholders that stand for a number."""
_WORDS: Final = "what"
"""The placeholder that stands for words which are marked where they are."""


def told(text: str, lang: Lang | None = None) -> str:
    """Return what an error says in a language, that of now by default.

    As it is where it is not known.
    """
    lang = lang or language()
    if lang is Lang.EN:
        return text
    return "\n".join(_line(lang, line) for line in text.split("\n"))


def _line(lang: Lang, text: str, name: str = _WORDS) -> str:
    for pattern, template in _patterns():
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            # Each part is shorter than its text, so this ends.
            said = {part: _line(lang, parts[part], part) for part in parts}
            text = catalogue(lang).pgettext(CONTEXT, template)
            return text.format(**said) if said else text
    # Others may be smsq's names that are words of the catalogue too.
    return translate(lang, text) if text and name == _WORDS else text


def templates() -> list[str]:
    """Return the templates, in the order in which they are tried."""
    chinese: Any = catalogue(Lang.ZH)
    begin = f"{CONTEXT}\x04"  # as gettext writes it
    keys = (key for key in chinese._catalog if isinstance(key, str))  # noqa: SLF001
    found = {key.removeprefix(begin) for key in keys if key.startswith(begin)}
    return [*_FRAMES, *sorted(found - set(_FRAMES), key=_fixed, reverse=True)]


def _fixed(template: str) -> tuple[int, str]:
    return len(_PLACEHOLDER.sub("", template)), template


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(_as_pattern(template)), template) for template in templates()]


def _as_pattern(template: str) -> str:
    parts = _PLACEHOLDER.split(template)
    fixed, names = parts[::2], parts[1::2]
    wanted = [
        rf"(?P<{name}>{r'-?[0-9.]+' if _NUMBERS.fullmatch(name) else '.+?'})" for name in names
    ]
    return "".join(
        re.escape(text) + pattern for text, pattern in zip(fixed, [*wanted, ""], strict=True)
    )
