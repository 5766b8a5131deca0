"""The language of what people read: English, or Chinese from the catalogue in `locale/`.

A process speaks English until its command line chooses; logs, JSON and whatever else a machine
reads never ask. A server translates for each of its clients. Standard gettext, so click's own
messages are found in the same catalogue.
"""

from __future__ import annotations

import gettext as _gettext
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

DOMAIN: Final = "smsq"
FOLDER: Final = Path(__file__).parent.parent / "locale"

_LOCALE: Final = "zh_CN"
_MACHINES: Final = ("", "c", "posix")


class Lang(StrEnum):
    """A language that people read."""

    EN = "en"
    ZH = "zh"

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Lang:
        """Return the language of an environment, by the rules of GNU gettext.

        The locale is the first of LC_ALL, LC_MESSAGES and LANG that is set. LANGUAGE lists what is
        preferred to its language, unless the locale is C, which asks for no language at all.
        """
        locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
        if locale.lower().partition(".")[0] in _MACHINES:
            return cls.EN
        for wanted in (*environ.get("LANGUAGE", "").split(":"), locale):
            if wanted.lower().startswith(("en", "zh")):
                return cls(wanted[:2].lower())
        return cls.EN

    @classmethod
    def preferred(cls, accept_language: str) -> Lang:
        """Return the first known one in an HTTP header Accept-Language, whatever its weights."""
        for wanted in accept_language.lower().split(","):
            if wanted.strip().startswith(("en", "zh")):
                return cls(wanted.strip()[:2])
        return cls.EN


_now = Lang.EN


def language() -> Lang:
    """Return the language in which this process speaks."""
    return _now


def use(lang: Lang) -> None:
    """Speak a language from now on."""
    global _now  # noqa: PLW0603 - as gettext's own textdomain
    _now = lang
    if lang is Lang.ZH:
        # click asks gettext itself, which goes by the environment alone.
        os.environ["LANGUAGE"] = _LOCALE
        _gettext.bindtextdomain(DOMAIN, FOLDER)
    _gettext.textdomain(DOMAIN if lang is Lang.ZH else "messages")


@contextmanager
def speaking(lang: Lang) -> Iterator[None]:
    """Speak a language, or what is chosen meanwhile, and after that the one from before."""
    before, variable = _now, os.environ.get("LANGUAGE")
    use(lang)
    try:
        yield
    finally:
        if variable is None:
            os.environ.pop("LANGUAGE", None)
        else:
            os.environ["LANGUAGE"] = variable
        use(before)


@cache
def catalogue(lang: Lang) -> _gettext.NullTranslations:
    """Return the messages of a language."""
    if lang is Lang.EN:
        return _gettext.NullTranslations()
    return _gettext.translation(DOMAIN, FOLDER, [_LOCALE])


def _(message: str, **values: Any) -> str:
    """Return a message in the language of now, with values for its placeholders."""
    return translate(_now, message, **values)


def translate(lang: Lang, message: str, **values: Any) -> str:
    """Return a message in a language, with values for its placeholders."""
    text = catalogue(lang).gettext(message)
    return text.format(**values) if values else text


def ngettext(one: str, many: str, n: int, **values: Any) -> str:
    """Return a message with a number `{n}` in it, in the language of now."""
    return catalogue(_now).ngettext(one, many, n).format(n=n, **values)


def pgettext(context: str, message: str) -> str:
    """Return a word in the language of now; `context` tells apart words of several meanings."""
    return catalogue(_now).pgettext(context, message)


def N_(message: str) -> str:  # noqa: N802 - gettext's name for it
    """Mark a message that is translated later, by `_`, and return it as it is."""
    return message
