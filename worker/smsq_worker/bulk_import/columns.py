"""The names that columns may have, in English, in the vendor's words and in Chinese."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from smsq.contract import parse_phone
from smsq.errors import InvalidMessage
from smsq.suggestions import did_you_mean
from smsq_worker.bulk_import.source import BadFile

PHONE_ALIASES: Final = (
    *("mobphone", "mobile", "phone number", "mobile number", "mobile phone"),
    *("手机号", "手机号码", "手机", "电话", "电话号码", "联系电话"),
)
REPORTED: Final = ("line", "reason")
"""Columns that a file of bad rows has in addition; they are skipped when it is sent, fixed."""

_BETWEEN_WORDS: Final = re.compile(r"[\s_-]+")


def _normal(name: str) -> str:
    """Write a name as it is compared: `Phone Number`, phone_number and PHONENUMBER are one."""
    return _BETWEEN_WORDS.sub("", unicodedata.normalize("NFKC", name).lower())


class Columns:
    """The columns of one kind of file. One of them is `phone`."""

    def __init__(
        self, *, aliases: Mapping[str, Sequence[str]], skipped: Sequence[str], allowed: str
    ) -> None:
        """`aliases` are each argument's other names; `allowed` is what a refusal says of them."""
        named = ((one, name) for name, others in aliases.items() for one in (name, *others))
        known = {_normal(one): name for one, name in named}
        self._by_name = known | dict.fromkeys(skipped, "")
        self._allowed = allowed

    def argument(self, name: str) -> str | None:
        """Return the argument that a column holds, "" for one that is skipped, None if unknown."""
        return self._by_name.get(_normal(name))

    def unknown(self, names: Iterable[str]) -> str:
        """Return which names are unknown, and what is allowed."""
        return f"unknown: {', '.join(map(self._suggested, names))}; {self._allowed}"

    def arguments(self, header: Sequence[str]) -> list[str]:
        """Return the argument of each column, "" for those without a name. Raises BadFile."""
        found = [self.argument(name) if name.strip() else "" for name in header]
        if not any(found) or any(map(_is_phone, header)):
            # A row instead of a header: it is not shown, as it may hold a code.
            raise BadFile(f"the first line must name the columns; {self._allowed}")
        unknown_names = [name for name, known in zip(header, found, strict=True) if known is None]
        if unknown_names:
            raise BadFile(f"columns {self.unknown(unknown_names)}")
        columns = [name or "" for name in found]
        twice = {name for name in columns if name and columns.count(name) > 1}
        if twice:
            raise BadFile(f"more than one column holds {', '.join(sorted(twice))}")
        if "phone" not in columns:
            raise BadFile(f"no column holds the numbers; {self._allowed}")
        return columns

    def _suggested(self, name: str) -> str:
        # A value in the wrong place may be a number or a code.
        shown = repr(re.sub(r"\d{4,}", "****", name.strip()[:40]))
        hint = did_you_mean(name.strip().lower(), self._by_name)
        return f"{shown} ({hint})" if hint else shown


TO_SEND: Final = Columns(
    aliases={
        "phone": PHONE_ALIASES,
        "template": ("smstemplate", "模板", "短信模板"),
        "code": ("变量", "模板变量", "验证码"),
        "lane": ("通道",),
        "ttl_s": ("有效期",),
        "key": (),
        "reference": ("备注",),
        "send_at": ("发送时间",),
        "on_ambiguous": (),
        "notify": (),
    },
    skipped=REPORTED,
    allowed=(
        "allowed are phone, template, code, lane, ttl_s, key, reference, send_at, "
        "on_ambiguous, notify; for the first three also mobphone, smstemplate, "
        "or 手机号, 电话, 模板, 变量, 验证码"
    ),
)


def is_reported(name: str) -> bool:
    """Return whether a column is one that a file of bad rows has in addition."""
    return _normal(name) in REPORTED


def _is_phone(text: str) -> bool:
    try:
        parse_phone(text.strip())
    except InvalidMessage:
        return False
    return True
