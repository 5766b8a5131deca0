"""Understanding what the gateway answered: liberal in reading, strict in concluding.

Documented are {"code": 200, "msg": "ok", "mid": "1151894566D2EDD9"} and
{"code": 400, "msg": "校验失败", "mid": ""}; `code` is the result, not the HTTP status.

An odd answer with only one meaning counts: an acceptance taken for doubt would be sent again.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from smsq_worker.domain.codes import Scope
from smsq_worker.domain.states import Outcome
from smsq_worker.infra.http import retry_after_s
from smsq_worker.vendors.mids import clean_mid, is_mid
from smsq_worker.vendors.statuses import NOT_TAKEN, OF_THE_ACCOUNT, TOO_FAST
from smsq_worker.vendors.text import decode, fit_words
from smsq_worker.vendors.vendor import GatewayResult

_AROUND: Final = "\ufeff" + string.whitespace
_LENIENT: Final = json.JSONDecoder(strict=False)
"""Accepts control characters in strings."""
_NAMED: Final = re.compile(r"""["'](code|mid)["']""", re.IGNORECASE)


def understand(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    private: Sequence[str] = (),
    *,
    trouble: str = "",
) -> GatewayResult:
    """Return what an HTTP answer, whatever it holds, means for the attempt: as of `Vendor`."""
    try:
        value, odd = loads(body), trouble
    except ValueError:
        value, odd = _odd_object(status, body)
    if not odd and type(value) is dict and value.get("code") == 200:  # noqa: PLR2004
        mid = value.get("mid")
        if type(mid) is str and is_mid(mid):
            # As documented, and so nearly always. What follows would find the same.
            return GatewayResult(Outcome.ACCEPTED, "", mid)
    answer, odd = _complete(value, odd)
    code, mid = _code(answer), clean_mid(answer.get("mid"))
    if code == 200 and (mid or status < 400):  # noqa: PLR2004
        return GatewayResult(Outcome.ACCEPTED, "" if mid else "no usable mid", mid, odd=odd)
    if status in NOT_TAKEN:
        return GatewayResult(
            Outcome.NOT_SENT,
            f"http {status}",
            retry_after_s=retry_after_s(headers),
            too_fast=status in TOO_FAST,
            # A server that counts our requests is up.
            trouble=status != HTTPStatus.TOO_MANY_REQUESTS,
        )
    if code is not None and status < 500:  # noqa: PLR2004
        detail = f"gateway:{code} {_message(answer, private)}".strip()
        return GatewayResult(Outcome.REFUSED, detail, odd=odd, scope=_scope(code, status))
    if 400 <= status < 500:  # noqa: PLR2004
        return GatewayResult(Outcome.REFUSED, f"gateway:http-{status}", scope=_scope(status))
    detail = f"http {status}" if status >= 500 else f"unreadable answer, http {status}"  # noqa: PLR2004
    return GatewayResult(Outcome.MAYBE_SENT, trouble or detail, trouble=True)


def loads(body: bytes) -> Any:
    """Return JSON that may have BOMs and blanks around it. Raises ValueError for anything else."""
    try:
        return json.loads(body.decode().strip(_AROUND))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _complete(value: object, odd: str) -> tuple[dict[str, Any], str]:
    """Return the answer's object, or an empty one, and what was odd about it.

    An odd answer counts only if it is complete: a code and a mid, which must be valid if the code
    is 200.
    """
    if not isinstance(value, dict):
        return {}, ""
    if "code" not in value:
        value, odd = {name.lower(): one for name, one in value.items()}, "keys in other letters"
    is_valid = _code(value) != 200 or clean_mid(value.get("mid"))  # noqa: PLR2004
    is_complete = value.keys() >= {"code", "mid"} and is_valid
    return (value, odd) if is_complete or not odd else ({}, "")


def _odd_object(status: int, body: bytes) -> tuple[Any, str]:
    """Return the only object in a body that is not JSON or not in UTF-8, and what was odd."""
    text, is_utf8 = decode(body)
    text = text.strip(_AROUND)
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
    is_usable = is_alone and status < HTTPStatus.BAD_REQUEST
    return (value, "text around its JSON") if is_usable else ({}, "")


def _code(answer: dict[str, Any]) -> int | None:
    value = answer.get("code")
    is_known = isinstance(value, str | int | float)
    found = re.fullmatch(r"(-?[0-9]{1,9})(\.0+)?", str(value).strip()) if is_known else None
    return int(found[1]) if found else None


def _scope(*codes: int) -> str:
    # 400 is of none: 校验失败 is said of a wrong secret and of a wrong number.
    return Scope.ACCOUNT.value if OF_THE_ACCOUNT.intersection(codes) else ""


def _message(answer: dict[str, Any], private: Sequence[str]) -> str:
    words = answer.get("msg")
    return fit_words(words, private) if isinstance(words, str) else ""
