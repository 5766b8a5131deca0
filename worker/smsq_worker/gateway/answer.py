"""Understanding what the gateway answered: liberal in reading, strict in concluding.

Documented are {"code": 200, "msg": "ok", "mid": "1151894566D2EDD9"} and
{"code": 400, "msg": "校验失败", "mid": ""}; `code` is the result, not the HTTP status.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from smsq_worker.gateway.text import trimmed
from smsq_worker.states import Outcome
from smsq_worker.timely import retry_after_s

NOT_TAKEN: Final = frozenset({408, 429, 503})
"""HTTP statuses by which a server says that it has not looked at the request."""
TOO_FAST: Final = frozenset({429, 503})

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


def understand(
    status: int, headers: Mapping[str, str], body: bytes, private: Sequence[str] = ()
) -> Call:
    """Conclude from an HTTP answer, whatever it holds, what the call came to.

    `private` are the texts that are masked where the vendor echoes them.
    """
    answer = _json_object(body)
    code = _code(answer)
    mid = _mid(answer)
    if code == 200 and (mid or status < 400):  # noqa: PLR2004
        return Call(Outcome.ACCEPTED, "" if mid else "no usable mid", mid)
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
        return Call(Outcome.MAYBE_SENT, f"http {status}", trouble=True)
    if code is not None:
        return Call(Outcome.REFUSED, f"gateway:{code} {_message(answer, private)}".strip())
    if status >= 400:  # noqa: PLR2004
        return Call(Outcome.REFUSED, f"gateway:http-{status}")
    return Call(Outcome.MAYBE_SENT, f"unreadable answer, http {status}", trouble=True)


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


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _code(answer: dict[str, Any]) -> int | None:
    value = answer.get("code")
    text = str(value).strip() if isinstance(value, str | int) else ""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else None


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
