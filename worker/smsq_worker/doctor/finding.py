"""What a check tells: how bad it is, what is so, and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check has seen. Neither text holds a secret or a phone number."""

    level: Level
    what: str
    advice: str = ""
    """What to change; empty where there is nothing to."""


def ok(what: str, advice: str = "") -> Finding:
    """Tell what is as it should be; with an advice, that it could be still better."""
    return Finding("ok", what, advice)


def warning(what: str, advice: str) -> Finding:
    """Tell what works now, or for all that is known, but should be looked at."""
    return Finding("warning", what, advice)


def error(what: str, advice: str) -> Finding:
    """Tell what keeps messages from being sent, or can lose them."""
    return Finding("error", what, advice)


def graded(value: float, *, warn_above: float, fail_above: float) -> Level:
    """Give the level of a value of which more is worse."""
    if value > fail_above:
        return "error"
    return "warning" if value > warn_above else "ok"


def one_line(error: BaseException) -> str:
    """Give an error's text in a form that no terminal stumbles over."""
    text = " ".join(str(error).split())
    return "".join(part if part.isprintable() else "?" for part in text)[:200]
