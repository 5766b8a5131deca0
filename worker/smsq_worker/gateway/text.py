"""Text as vendors write it: in several charsets, with what C strings leave around it."""

from __future__ import annotations

import json


def decoded(body: bytes) -> str:
    """Return the text of a body, without what is nothing around it.

    UTF-8, 16 or 32 where it is that, else GB18030, which GBK and GB2312 are parts of. Of neither,
    such as a text that was cut within a character, what is not UTF-8 is replaced by U+FFFD.
    """
    for charset in (json.detect_encoding(body), "gb18030"):
        try:
            return trimmed(body.decode(charset))
        except UnicodeDecodeError:
            continue
    return trimmed(body.decode(errors="replace"))


def trimmed(text: str) -> str:
    """Return a text without blanks, control characters and byte order marks at its ends."""
    start, end = 0, len(text)
    while start < end and _is_nothing(text[start]):
        start += 1
    while start < end and _is_nothing(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_nothing(sign: str) -> bool:
    return sign == " " or not sign.isprintable()
