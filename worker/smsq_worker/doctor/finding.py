"""What a check reports: how bad it is, what was found, and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has found. Neither text holds a secret or a phone number."""

    level: Level
    what: str
    advice: str = ""
    """What to change; empty if nothing."""


def ok(what: str, advice: str = "") -> Finding:
    """Report what is as it should be; an advice says how it could be better still."""
    return Finding("ok", what, advice)


def warning(what: str, advice: str) -> Finding:
    """Report what works, as far as is known, but needs attention."""
    return Finding("warning", what, advice)


def error(what: str, advice: str) -> Finding:
    """Report what prevents sending, or can lose messages."""
    return Finding("error", what, advice)


def graded(value: float, *, warn_above: float, fail_above: float) -> Level:
    """Return the level of a value that is worse the higher it is."""
    if value > fail_above:
        return "error"
    return "warning" if value > warn_above else "ok"


def one_line(error: BaseException) -> str:
    """Return an error's text in a form that is safe for a terminal."""
    text = " ".join(str(error).split())
    return "".join(part if part.isprintable() else "?" for part in text)[:200]
