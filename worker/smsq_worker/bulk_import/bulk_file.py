"""A file to import, as its passes share it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath
from typing import Any, Final

from smsq.contract import has_number
from smsq_worker.bulk_import.bad_rows import RowsOut, rows_file
from smsq_worker.bulk_import.checkpoint import Checkpoint, open_checkpoint
from smsq_worker.bulk_import.columns import REPORTED
from smsq_worker.bulk_import.rows import Row, Rows
from smsq_worker.bulk_import.source import BadFile, Lines, Source, scan

FOLDER: Final = "send-file"
"""In SMSQ_HOME."""

_LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")


class BulkFile:
    """A file, how its rows are read, and its name on the disk and in keys."""

    def __init__(
        self,
        source: Source,
        defaults: Mapping[str, Any],
        encoding: str | None,
        prefix: str,
        notify: tuple[str, ...] = (),
    ) -> None:
        """Read a regular file once. Raises BadFile.

        `prefix` is "" where none is given; `notify` are the tasks that rows may name.
        """
        self.source = source
        self._defaults = defaults
        self._prefix = prefix
        self._notify = notify
        self._scan = scan(source.file, encoding) if source.seekable else None
        self.encoding = self._scan.encoding if self._scan else encoding

    def rows(self) -> Rows:
        """Read the rows, of a regular file from the beginning. Raises BadFile."""
        if self.source.seekable:
            self.source.file.seek(0)
        lines = Lines(self.source.file, self.encoding)
        return Rows(lines, self.source.name, self._defaults, self._notify)

    @contextmanager
    def bad_rows(self, path: Path | None, rows: Rows) -> Iterator[RowsOut | None]:
        """Open the file for bad rows, if one is wanted. Raises BadFile."""
        if path is None:
            yield None
            return
        with rows_file(path, self.source, self.encoding, "--bad-rows") as file:
            yield RowsOut(file, rows.records, REPORTED)

    def checkpoint(
        self, home: Path, *, anew: bool, follow: bool
    ) -> AbstractContextManager[Checkpoint]:
        """Open how far the file has come; a pipe is at its beginning. Raises NotAgain, BadFile."""
        if anew and not self._scan:
            raise BadFile("--anew is for files; give stdin another --key-prefix")
        return open_checkpoint(
            home / FOLDER,
            self._name(),
            self._defaults,
            anew=anew,
            follow=follow,
            once=self._scan is None,
        )

    def key(self, run: str) -> Callable[[Row], str] | None:
        """Return what makes the keys of rows without one; None where every row needs its own.

        The same file has the same keys in every run of that name.
        """
        if self._scan:
            parts = (self._prefix or "file", self._scan.digest, *filter(None, (run,)))
            return lambda row: ":".join((*parts, str(row.line)))
        if self._prefix:
            # It is unknown which file the line is from, so the row itself is in its key.
            return lambda row: f"{self._prefix}:{row.line}:{_digest(row.given)}"
        return None

    def campaign(self, run: str) -> str:
        """Return the name of the file's campaign where none is given: its own, and its digest."""
        name = PurePath(self.source.name).name if self._scan else f"stdin {self._prefix}".strip()
        digest = self._scan.digest[:8] if self._scan else secrets.token_hex(4)
        if not name.isprintable() or has_number(name):
            name = "file"
        # Without blanks: it is typed in a hurry. Of letters: digits can look like a phone number.
        marks = (mark.translate(_LETTERS) for mark in (digest, run[:8]) if mark)
        return "-".join([*name[:40].split(), *marks])

    def _name(self) -> str:
        if self._scan and not self._prefix:
            return self._scan.digest
        if self._scan:
            return _digest([self._scan.digest, self._prefix])
        return f"stdin-{_digest(self._prefix) if self._prefix else secrets.token_hex(8)}"


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
