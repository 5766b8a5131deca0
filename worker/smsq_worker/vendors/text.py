"""Text and forms as vendors write them: in several charsets, with leftovers of C strings around."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import multipart

MAX_STAT: Final = 64
MAX_PARTS: Final = 100
MAX_LINE: Final = 1024
"""Of a part's head."""
_ENCODINGS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "base64": binascii.a2b_base64,
    "quoted-printable": binascii.a2b_qp,
}


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


def fit_words(words: str, private: Sequence[str]) -> str:
    """Return a vendor's words, cut short, with anything masked that may be a number or a code."""
    # Four or more digits, however they are grouped.
    hidden = [*map(re.escape, sorted(filter(None, private), key=len, reverse=True))]
    hidden.append(r"\d(?:[ -]?\d){3,}")
    masked = re.sub("|".join(hidden), "****", words, flags=re.IGNORECASE)
    return "".join(c if c.isprintable() else " " for c in masked[:60])


def clean_stat(value: object) -> str:
    """Return a stat as a vendor wrote it, or "" if it is not a text that can be one."""
    text = trimmed(value) if isinstance(value, str) else ""
    is_stat = 0 < len(text) <= MAX_STAT and text.isprintable() and "\ufffd" not in text
    return text if is_stat else ""


def is_multipart(content_type: str) -> bool:
    """Return whether a content type announces a multipart form."""
    return content_type.lower().startswith("multipart/form-data")


def multipart_fields(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Return the fields of a multipart form, in order; none if it is malformed.

    Takes a time in proportion to the body, whatever that holds.
    """
    if len(content_type) > MAX_LINE:
        return []
    boundary = multipart.parse_options_header(content_type)[1].get("boundary", "")
    if b"\r\n" not in body:  # Some clients end lines as in C.
        body = body.replace(b"\n", b"\r\n")
    fields: list[tuple[str, bytes]] = []
    part: Any = None
    try:
        parser = multipart.PushMultipartParser(
            boundary.encode("latin-1", "replace"),
            max_header_size=MAX_LINE,
            max_segment_count=MAX_PARTS,
            header_charset="latin-1",
        )
        for event in parser.parse(body):
            if isinstance(event, bytes | bytearray):
                fields[-1] = part.name, fields[-1][1] + event
            elif event:
                part = event
                fields.append((part.name, b""))
            else:
                fields[-1] = part.name, _decoded(fields[-1][1], part)
    except (multipart.MultipartError, ValueError):
        return []
    return fields


def _decoded(value: bytes, part: multipart.MultipartSegment) -> bytes:
    """Undo a part's transfer encoding; raises ValueError."""
    undo = _ENCODINGS.get(part.header("Content-Transfer-Encoding", "").strip().lower())
    return undo(value) if undo else value
