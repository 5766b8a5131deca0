"""A file as text: its identity, its encoding, and its lines, each of bounded length."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from smsq.errors import SmsqError

UTF_8: Final = "utf-8"
UTF_8_BOM: Final = "utf-8-sig"
GB18030: Final = "gb18030"

MAX_LINE: Final = 64 * 1024
"""Bytes. The longest code, key and reference take less than 4 KiB."""

_BOM: Final = "\ufeff"
_BLOCK: Final = 1 << 20
_BINARY: Final = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "compressed",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
}
_THREE_BYTES: Final = re.compile("[\u0800-\uffff]")


class BadFile(SmsqError, ValueError):  # noqa: N818 - the user's mistake, not the program's
    """The file cannot be read, or not sent as it is; the text says why, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file."""

    file: BinaryIO
    name: str
    seekable: bool
    """Whether it is a regular file, which can be read twice; otherwise stdin or a pipe."""

    def fingerprint(self) -> tuple[int, int]:
        """Return what changes when somebody writes to the file."""
        found = os.fstat(self.file.fileno())
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of a regular file after reading all of it."""

    digest: str
    encoding: str


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a file; - is stdin. Raises BadFile."""
    if path == "-":
        if sys.stdin is None:
            raise BadFile("stdin is closed")
        yield Source(sys.stdin.buffer, "stdin", seekable=False)
        return
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115 - /dev/fd/N is a path like others
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such name can be"
        raise BadFile(f"{path!r} cannot be read: {why}") from None
    with file:
        yield Source(file, path, stat.S_ISREG(os.fstat(file.fileno()).st_mode))


def scan(file: BinaryIO, encoding: str | None) -> Scan:
    """Read a regular file to its end: its digest, and its encoding unless that is given.

    Strict UTF-8 is tried on the complete file, then GB18030. A file whose first part is Chinese in
    UTF-8 is a damaged UTF-8 file, although GB18030 could decode most of it. Raises BadFile with
    the first line that cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    head = file.read(_BLOCK)
    no_binary(head)
    if not head:
        raise BadFile("the file is empty")
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return Scan(digest.hexdigest(), encoding or _encoding(file, head))


def no_binary(head: bytes) -> None:
    """Raise BadFile where a file does not begin like a text."""
    for magic, kind in _BINARY.items():
        if head.startswith(magic):
            raise BadFile(f"the file is {kind}; save it as CSV in UTF-8")
    if b"\0" in head:
        raise BadFile("the file is binary; save it as CSV or JSON Lines")


def _encoding(file: BinaryIO, head: bytes) -> str:
    utf_8 = UTF_8_BOM if head.startswith(codecs.BOM_UTF8) else UTF_8
    line, is_chinese = _first_unreadable(file, UTF_8)
    if not line:
        file.seek(0)
        return utf_8
    if is_chinese or utf_8 == UTF_8_BOM:
        raise BadFile(f"line {line} is not UTF-8, and the lines before it are; fix it")
    bad, _ = _first_unreadable(file, GB18030)
    if bad:
        raise BadFile(f"line {line} is not UTF-8, and line {bad} is not GB18030 (GBK)")
    file.seek(0)
    return GB18030


def _first_unreadable(file: BinaryIO, encoding: str) -> tuple[int, bool]:
    """Return the first line that is not in an encoding, or 0, and whether Chinese precedes it."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    file.seek(0)
    lines, is_chinese = 1, False
    while block := file.read(_BLOCK):
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            # It begins with the bytes that the decoder kept of the block before.
            good = error.object[: error.start]
            known = good.decode(encoding)
            return lines + good.count(b"\n"), is_chinese or bool(_THREE_BYTES.search(known))
        lines += block.count(b"\n")
        is_chinese = is_chinese or (not block.isascii() and bool(_THREE_BYTES.search(text)))
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return lines, is_chinese
    return 0, is_chinese


class Lines:
    """A file's lines as text, with their ends, from where it was read last. Raises BadFile.

    Without an encoding, the first line that is not ASCII decides between UTF-8 and GB18030: a pipe
    can be read only once.
    """

    def __init__(self, file: BinaryIO, encoding: str | None) -> None:
        self._file = file
        self.encoding = UTF_8 if encoding == UTF_8_BOM else encoding
        self.number = 0
        """Of the last line, counted from 1."""

    def __iter__(self) -> Iterator[str]:
        while raw := self._file.readline(MAX_LINE + 1):
            self.number += 1
            if self.number == 1:
                no_binary(raw)
                if b"\r" in raw.strip(b"\r\n"):
                    raise BadFile("the file ends its lines with CR alone; save it with LF or CRLF")
            if len(raw) > MAX_LINE:
                raise BadFile(f"line {self.number} is longer than {MAX_LINE // 1024} KiB")
            if b"\0" in raw:
                raise BadFile(f"line {self.number} holds a NUL byte, so the file is no text")
            text = self._decoded(raw)
            # A program that puts one in front of a file that has one leaves two.
            yield text.lstrip(_BOM) if self.number == 1 else text

    def _decoded(self, raw: bytes) -> str:
        try:
            text = raw.decode(self.encoding or UTF_8)
        except UnicodeDecodeError:
            if self.encoding is None:
                self.encoding = GB18030
                return self._decoded(raw)
            name = "UTF-8" if self.encoding == UTF_8 else "GB18030 (GBK)"
            raise BadFile(
                f"line {self.number} is not {name}, as the file was until there"
            ) from None
        if self.encoding is None and not raw.isascii():
            self.encoding = UTF_8
        return text
