"""Understanding what the gateway answered: liberal in reading, strict in concluding.

Documented are {"code": 200, "msg": "ok", "mid": "1151894566D2EDD9"} and
{"code": 400, "msg": "校验失败", "mid": ""}; `code` is the result, not the HTTP status.

What is odd but says one thing alone is taken: a yes that was called doubt would be sent again.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from smsq_worker.domain.states import Outcome
from smsq_worker.gateway.text import trimmed
from smsq_worker.infra.http import retry_after_s

NOT_TAKEN: Final = frozenset({408, 429, 503})
"""HTTP statuses by which a server says that it has not looked at the request."""
TOO_FAST: Final = frozenset({429, 503})

_LENIENT: Final = json.JSONDecoder(strict=False)
"""Takes control characters in texts."""
_NAMED: Final = re.compile(r"""["'](code|mid)["']""", re.IGNORECASE)
_MID: Final = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """What a call came to."""

    outcome: Outcome
    detail: str
    """A word or two for the operator; for a refusal it begins with the message's reason."""
    mid: str = ""
    retry_after_s: float = 0
    connected: bool = True
    """False where no connection came about, so that an immediate second try is harmless."""
    too_fast: bool = False
    """The gateway wants fewer calls."""
    trouble: bool = False
    """The gateway was out of reach or did not do what a gateway does: a sign of an outage."""
    odd: str = ""
    """What was odd about the answer that was understood all the same."""


def understand(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    private: Sequence[str] = (),
    *,
    trouble: str = "",
) -> Call:
    """Conclude from an HTTP answer, whatever it holds, what the call came to.

    `private` are the texts that are masked where the vendor echoes them; `trouble` names what went
    wrong while the body was read, which then is what had come.
    """
    answer, odd = _answer(status, body, trouble)
    code = _code(answer)
    mid = _mid(answer)
    if code == 200 and (mid or status < 400):  # noqa: PLR2004
        return Call(Outcome.ACCEPTED, "" if mid else "no usable mid", mid, odd=odd)
    if status in NOT_TAKEN:
        return Call(
            Outcome.NOT_SENT,
            f"http {status}",
            retry_after_s=retry_after_s(headers),
            too_fast=status in TOO_FAST,
            # One that counts our calls is at work.
            trouble=status != HTTPStatus.TOO_MANY_REQUESTS,
        )
    if status >= 500:  # noqa: PLR2004
        return Call(Outcome.MAYBE_SENT, trouble or f"http {status}", trouble=True)
    if code is not None:
        detail = f"gateway:{code} {_message(answer, private)}".strip()
        return Call(Outcome.REFUSED, detail, odd=odd)
    if status >= 400:  # noqa: PLR2004
        return Call(Outcome.REFUSED, f"gateway:http-{status}")
    return Call(Outcome.MAYBE_SENT, trouble or f"unreadable answer, http {status}", trouble=True)


def clean_mid(value: object) -> str:
    """Read a mid; empty where it is none: printable ASCII without blanks, at most 64."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = trimmed(str(value))
    return text if _MID.fullmatch(text) else ""


def text_of(body: bytes) -> str:
    """Read UTF-8 without the BOMs and blanks around it. Raises ValueError for anything else."""
    return body.decode().strip("\ufeff" + string.whitespace)


def loads(body: bytes) -> Any:
    """Read JSON with or without BOMs and blanks. Raises ValueError for anything else."""
    try:
        return json.loads(text_of(body))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _answer(status: int, body: bytes, trouble: str) -> tuple[dict[str, Any], str]:
    """Read the answer's object, and what was odd about it; an empty one where there is none.

    From an odd answer only what is complete is taken: code and mid, and for a yes a mid that is
    one.
    """
    try:
        value, odd = loads(body), trouble
    except ValueError:
        value, odd = _odd_object(status, body)
    if not isinstance(value, dict):
        return {}, ""
    if "code" not in value:
        value, odd = {name.lower(): one for name, one in value.items()}, "keys in other letters"
    said = value.keys() >= {"code", "mid"} and (_code(value) != 200 or _mid(value))  # noqa: PLR2004
    return (value, odd) if said or not odd else ({}, "")


def _odd_object(status: int, body: bytes) -> tuple[Any, str]:
    """Find the one object in a body that is no JSON, or not in UTF-8."""
    text, is_utf8 = _text(body)
    try:
        start = text.index("{")
        value, end = _LENIENT.raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}, ""
    before, behind = text[:start].rstrip("\ufeff \t"), text[end:]
    if not (before or behind):
        return value, "not quite JSON" if is_utf8 else "not in UTF-8"
    # A fatal error may quote an object, and a list may hold several.
    is_alone = before[-1:] in {"", "\n", ">"} and not _NAMED.search(behind)
    return (
        (value, "text around its JSON")
        if is_alone and status < HTTPStatus.BAD_REQUEST
        else ({}, "")
    )


def _text(body: bytes) -> tuple[str, bool]:
    """Decode a body somehow; and return whether it is UTF-8."""
    for charset in (json.detect_encoding(body), "gb18030"):
        with suppress(UnicodeDecodeError):
            text = body.decode(charset).strip("\ufeff" + string.whitespace)
            return text, charset.startswith("utf-8")
    # Mostly one that was cut in the middle of a sign.
    return body.decode(errors="replace").strip(), False


def _code(answer: dict[str, Any]) -> int | None:
    value = answer.get("code")
    is_known = isinstance(value, str | int | float)
    found = re.fullmatch(r"(-?[0-9]{1,9})(\.0+)?", str(value).strip()) if is_known else None
    return int(found[1]) if found else None


def _mid(answer: dict[str, Any]) -> str:
    return clean_mid(answer.get("mid"))


def _message(answer: dict[str, Any], private: Sequence[str]) -> str:
    """Give the vendor's words, cut short and without anything that could be a number or a code."""
    words = answer.get("msg")
    if not isinstance(words, str):
        return ""
    # Four digits or more, however they are grouped.
    hidden = [*map(re.escape, sorted(filter(None, private), key=len, reverse=True))]
    hidden.append(r"\d(?:[ -]?\d){3,}")
    masked = re.sub("|".join(hidden), "****", words, flags=re.IGNORECASE)
    return "".join(c if c.isprintable() else " " for c in masked[:60])
