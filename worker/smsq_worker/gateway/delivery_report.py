"""Reading delivery reports as the gateway POSTs them.

Documented is {"mid": "1151894566D2EDD9", "stat": "DELIVRD"} and nothing about its content type:
JSON under any type, an array of reports, a form (also as the query of a request without a body) and
a multipart form are all understood, in UTF-8 or GBK. What comes of it is strict: a mid and a stat.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq_worker.gateway.response import clean_mid
from smsq_worker.gateway.text import decoded, trimmed

MAX_STAT: Final = 64


@dataclass(frozen=True, slots=True)
class Reports:
    """What a body held."""

    good: tuple[tuple[str, str], ...]
    """(mid, stat as it came)."""
    bad: int
    """How many more were no reports."""


def read(content_type: str, body: bytes, query: bytes = b"") -> Reports:
    """Read the reports in a body, whatever it holds, or in the query where there is none."""
    items = _items(content_type, body) if body.strip() else [_form(query)]
    good = [report for item in items if (report := _report(item))]
    return Reports(tuple(good), len(items) - len(good))


def _items(content_type: str, body: bytes) -> list[Any]:
    try:
        # Not strict: a field may hold a line's end as it is.
        value = json.loads(decoded(body), strict=False)
    except (ValueError, RecursionError):
        return [_fields(content_type, body)]
    return value if isinstance(value, list) else [value]


def _fields(content_type: str, body: bytes) -> dict[str, str]:
    if not content_type.lower().startswith("multipart/form-data"):
        return _form(body)
    try:
        return _multipart(content_type, body)
    except Exception:  # noqa: BLE001 - the parser promises nothing about hostile bytes
        return {}


def _form(text: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(decoded(text), max_num_fields=100))
    except ValueError:
        return {}


def _multipart(content_type: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    parts = BytesParser().parsebytes(head + body).walk()
    return {
        str(part.get_param("name", header="content-disposition")): _text(part.get_payload())
        for part in parts
        if not part.is_multipart()
    }


def _text(value: object) -> str:
    return trimmed(value) if isinstance(value, str) else ""


def _report(item: object) -> tuple[str, str] | None:
    if not isinstance(item, dict):
        return None
    mid, stat = clean_mid(item.get("mid")), _text(item.get("stat"))
    is_stat = 0 < len(stat) <= MAX_STAT and stat.isprintable() and "\ufffd" not in stat
    return (mid, stat) if mid and is_stat else None
