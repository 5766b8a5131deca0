"""Reading delivery reports as the gateway POSTs them.

Documented is {"mid": "1151894566D2EDD9", "stat": "DELIVRD"} and nothing about its content type:
JSON under any type, an array of reports, a form and a multipart form are all understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any, Final
from urllib.parse import parse_qsl

from smsq_worker.gateway.answer import clean_mid, loads, text_of

MAX_STAT: Final = 64


@dataclass(frozen=True, slots=True)
class Reports:
    """What a body held."""

    good: tuple[tuple[str, str], ...]
    """(mid, stat as it came)."""
    bad: int
    """How many more were no reports."""


def read(content_type: str, body: bytes) -> Reports:
    """Read the reports in a body, whatever it holds."""
    items = _items(content_type, body)
    good = [report for item in items if (report := _report(item))]
    return Reports(tuple(good), len(items) - len(good))


def _items(content_type: str, body: bytes) -> list[Any]:
    try:
        value = loads(body)
    except ValueError:
        return [_form(content_type, body)]
    return value if isinstance(value, list) else [value]


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.lower().startswith("multipart/form-data"):
        try:
            return _multipart(content_type, body)
        except Exception:  # noqa: BLE001 - the parser promises nothing about hostile bytes
            return {}
    try:
        return dict(parse_qsl(text_of(body), max_num_fields=100))
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
    return value.strip() if isinstance(value, str) else ""


def _report(item: object) -> tuple[str, str] | None:
    if not isinstance(item, dict):
        return None
    mid, stat = clean_mid(item.get("mid")), _text(item.get("stat"))
    return (mid, stat) if mid and 0 < len(stat) <= MAX_STAT and stat.isprintable() else None
