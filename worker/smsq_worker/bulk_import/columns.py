"""The names that columns may have, in English, in the vendor's words and in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from smsq.contract import parse_phone
from smsq.errors import InvalidMessage
from smsq.suggestions import did_you_mean
from smsq_worker.bulk_import.source import BadFile

ALIASES: Final = {
    "phone": ("mobphone", "mobile", "手机号", "手机号码", "手机"),
    "template": ("smstemplate", "模板", "短信模板"),
    "code": ("变量", "模板变量", "验证码"),
    "lane": ("通道",),
    "ttl_s": ("有效期",),
    "key": (),
    "reference": ("备注",),
    "send_at": ("发送时间",),
    "on_ambiguous": (),
    "notify": (),
}
REPORTED: Final = ("line", "reason")
"""Columns that a file of bad rows has in addition; they are skipped when it is sent, fixed."""

_BY_NAME: Final = {
    alias: name for name, others in ALIASES.items() for alias in (name, *others)
} | dict.fromkeys(REPORTED, "")
_ALLOWED: Final = (
    f"allowed are {', '.join(ALIASES)}; for the first three also mobphone, smstemplate, "
    "or 手机号, 模板, 变量, 验证码"
)


def argument(name: str) -> str | None:
    """Return the argument that a column holds, "" for one that is skipped, None if unknown."""
    return _BY_NAME.get(name.strip().lower())


def unknown(names: Iterable[str]) -> str:
    """Return which names are unknown, and what is allowed."""
    return f"unknown: {', '.join(map(_suggested, names))}; {_ALLOWED}"


def arguments(header: Sequence[str]) -> list[str]:
    """Return the argument of each column. Raises BadFile."""
    found = [argument(name) for name in header]
    if not any(found) or any(map(_is_phone, header)):
        # A row instead of a header: it is not shown, as it may hold a code.
        raise BadFile(f"the first line must name the columns; {_ALLOWED}")
    unknown_names = [name for name, known in zip(header, found, strict=True) if known is None]
    if unknown_names:
        raise BadFile(f"columns {unknown(unknown_names)}")
    columns = [name or "" for name in found]
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise BadFile(f"more than one column holds {', '.join(sorted(twice))}")
    if "phone" not in columns:
        raise BadFile(f"no column holds the numbers; {_ALLOWED}")
    return columns


def _suggested(name: str) -> str:
    # A value in the wrong place may be a number or a code.
    shown = repr(re.sub(r"\d{4,}", "****", name.strip()[:40]))
    hint = did_you_mean(name.strip().lower(), _BY_NAME)
    return f"{shown} ({hint})" if hint else shown


def _is_phone(text: str) -> bool:
    try:
        parse_phone(text.strip())
    except InvalidMessage:
        return False
    return True
