"""Reading delivery reports as the gateway POSTs them.

Documented is {"mid": "1151894566D2EDD9", "stat": "DELIVRD"} without a content type. Accepted are
JSON under any type, an array of reports, a form (also as the query of a request without a body) and
a multipart form, in UTF-8 or GBK. The result is strict: a valid mid and a valid stat.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from smsq_worker.vendors.mids import clean_mid
from smsq_worker.vendors.text import clean_stat, decode, is_multipart, multipart_fields, trimmed
from smsq_worker.vendors.vendor import Reports


def read(content_type: str, body: bytes, query: bytes = b"") -> Reports:
    """Return the reports in a body, whatever it holds, or in the query if there is no body."""
    items = _items(content_type, body) if body.strip() else [_form(query)]
    good = [report for item in items if (report := _report(item))]
    return Reports(tuple(good), len(items) - len(good))


def _items(content_type: str, body: bytes) -> list[Any]:
    try:
        # Not strict: a field may hold a raw line break.
        value = json.loads(_text(body), strict=False)
    except (ValueError, RecursionError):
        return [_multipart(content_type, body) if is_multipart(content_type) else _form(body)]
    return value if isinstance(value, list) else [value]


def _form(text: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(_text(text), max_num_fields=100))
    except ValueError:
        return {}


def _multipart(content_type: str, body: bytes) -> dict[str, str]:
    return {name: _text(value) for name, value in multipart_fields(content_type, body)}


def _text(body: bytes) -> str:
    return trimmed(decode(body)[0])


def _report(item: object) -> tuple[str, str] | None:
    if not isinstance(item, dict):
        return None
    mid, stat = clean_mid(item.get("mid")), clean_stat(item.get("stat"))
    return (mid, stat) if mid and stat else None
