"""The bytes of a file: which file it is, and in which encoding."""

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

UTF_8: Final = "utf-8"
UTF_8_BOM: Final = "utf-8-sig"
GB18030: Final = "gb18030"

_BLOCK: Final = 1 << 20
_BINARY: Final = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "compressed",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
}
_THREE_BYTES: Final = re.compile("[\u0800-\uffff]")


class BadFile(ValueError):  # noqa: N818 - the user's mistake, not the program's
    """The file cannot be read, or not be sent as it is; the text says why, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file."""

    file: BinaryIO
    name: str
    seekable: bool
    """Whether it is a regular file, which can be read twice; otherwise stdin or a pipe."""

    def fingerprint(self) -> tuple[int, int]:
        """Give what changes when somebody writes to the file."""
        found = os.fstat(self.file.fileno())
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look at all bytes of a regular file tells."""

    digest: str
    encoding: str
    size: int


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
    """Read a regular file to its end and go back: its digest, and its encoding unless it is given.

    Strict UTF-8 is tried over the whole file, else GB18030. A file of which the first part is
    Chinese in UTF-8 is a damaged UTF-8 file, though GB18030 would give most of it a meaning.
    Raises BadFile with the first line that cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    head = file.read(_BLOCK)
    no_binary(head)
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    if not size:
        raise BadFile("the file is empty")
    return Scan(digest.hexdigest(), encoding or _encoding(file, head), size)


def no_binary(head: bytes) -> None:
    """Raise BadFile where the beginning of a file is that of no text we read."""
    for magic, kind in _BINARY.items():
        if head.startswith(magic):
            raise BadFile(f"the file is {kind}; save it as CSV in UTF-8")
    if b"\0" in head:
        raise BadFile("the file is binary; give it as CSV or JSON Lines")


def _encoding(file: BinaryIO, head: bytes) -> str:
    utf_8 = UTF_8_BOM if head.startswith(codecs.BOM_UTF8) else UTF_8
    line, is_chinese = _first_unreadable(file, UTF_8)
    if not line:
        file.seek(0)
        return utf_8
    if is_chinese or utf_8 == UTF_8_BOM:
        raise BadFile(f"line {line} is not UTF-8, and the lines before it are; mend it")
    bad, _ = _first_unreadable(file, GB18030)
    if bad:
        raise BadFile(f"line {line} is not UTF-8, and line {bad} is not GB18030 (GBK)")
    file.seek(0)
    return GB18030


def _first_unreadable(file: BinaryIO, encoding: str) -> tuple[int, bool]:
    """Give the first line that is not in an encoding, 0 if none, and whether Chinese was before."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    file.seek(0)
    lines, is_chinese = 1, False
    while block := file.read(_BLOCK):
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            # The decoder's rest of the block before may stand in front of this one.
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
