"""The lines of a file as text, each of a length that is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from smsq_worker.bulk_import.source import GB18030, UTF_8, UTF_8_BOM, BadFile, no_binary

MAX_LINE: Final = 64 * 1024
"""Bytes. The longest code, key and reference take less than 4 KiB."""

_BOM: Final = "\ufeff"


class Lines:
    """Goes through a file's lines, with their ends. Raises BadFile.

    Without an encoding, the first line that is not ASCII decides whether it is UTF-8 or GB18030:
    a pipe can be read only once.
    """

    def __init__(self, file: BinaryIO, encoding: str | None) -> None:
        self._file = file
        self.encoding = UTF_8 if encoding == UTF_8_BOM else encoding
        self.number = 0
        """Of the line given last, counted from 1."""
        self.bytes = 0
        """Read so far."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        self.bytes += len(raw)
        if self.number == 1:
            no_binary(raw)
        if len(raw) > MAX_LINE:
            raise BadFile(f"line {self.number} is longer than {MAX_LINE // 1024} KiB")
        if b"\0" in raw:
            raise BadFile(f"line {self.number} holds a NUL byte, so the file is no text")
        text = self._decoded(raw)
        return text.removeprefix(_BOM) if self.number == 1 else text

    def _decoded(self, raw: bytes) -> str:
        if self.encoding is None and not raw.isascii():
            self.encoding = UTF_8 if _is(raw, UTF_8) else GB18030
        try:
            return raw.decode(self.encoding or UTF_8)
        except UnicodeDecodeError:
            name = "UTF-8" if self.encoding == UTF_8 else "GB18030 (GBK)"
            raise BadFile(
                f"line {self.number} is not {name}, as the file was until there"
            ) from None


def _is(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
