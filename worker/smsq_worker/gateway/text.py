"""Text and forms as vendors write them: in several charsets, with leftovers of C strings around."""

from __future__ import annotations

import json
from email.parser import BytesParser


def decode(body: bytes) -> tuple[str, bool]:
    """Return the text of a body, and whether it is UTF-8.

    UTF-8, 16 or 32 is detected; anything else is read as GB18030, a superset of GBK and GB2312.
    Where that fails, as with a text cut within a character, U+FFFD replaces what is not UTF-8.
    """
    for charset in (json.detect_encoding(body), "gb18030"):
        try:
            return body.decode(charset), charset.startswith("utf-8")
        except UnicodeDecodeError:
            continue
    return body.decode(errors="replace"), False


def trimmed(text: str) -> str:
    """Return a text without blanks, control characters and byte order marks at its ends."""
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_blank(char: str) -> bool:
    return char == " " or not char.isprintable()


def is_multipart(content_type: str) -> bool:
    """Return whether a content type announces a multipart form."""
    return content_type.lower().startswith("multipart/form-data")


def multipart_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a multipart form, the last of repeated ones; none if it is malformed."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    fields = {}
    try:
        for part in BytesParser().parsebytes(head + body).walk():
            value = part.get_payload(decode=True)
            if isinstance(value, bytes):
                fields[str(part.get_param("name", header="content-disposition"))] = value
    except Exception:  # noqa: BLE001 - the parser promises nothing about hostile bytes
        return {}
    return fields
