"""How far the import of a file has come, on the disk: <SMSQ_HOME>/send-file/<digest>.json.

Beside it, <digest>.ids holds the ids of the messages, one a line in the order of the rows. Neither
holds a number or a code. What is recorded was certainly enqueued; the next batch may have been,
and is enqueued again under the same keys, which the ledger refuses where it has them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from smsq.contract import KEY_TTL_S
from smsq.errors import SmsqError
from smsq_worker.bulk_import.source import BadFile

FSYNC_EVERY_S: Final = 1.0
"""What a crash of the machine loses is enqueued again, and refused by its keys."""
_MARGIN_S: Final = 1800
"""For the check of the file, which comes before the keys are used."""


class NotAgain(SmsqError):  # noqa: N818 - says what is so
    """The file must not be sent now; the text says why, and what can be done."""


@dataclass(slots=True)
class Progress:
    """What is kept between runs. Times are Unix seconds."""

    options: str
    """Digest of the arguments that rows take from the command line."""
    run: str
    """Part of the keys of rows that have none."""
    started: float
    updated: float
    line: int = 0
    """Of the last row that is enqueued."""
    enqueued: int = 0
    before: int = 0
    """Rows that an earlier, interrupted run had already enqueued."""
    duplicates: int = 0
    """Rows whose own key another message held."""
    ids_bytes: int = 0
    finished: float | None = None

    @property
    def done(self) -> int:
        """Return how many rows are enqueued or were refused as duplicates."""
        return self.enqueued + self.before + self.duplicates


class Checkpoint:
    """The progress of one file; made by `open_checkpoint`."""

    def __init__(self, path: Path, ids: IO[bytes], progress: Progress) -> None:
        self.progress = progress
        self.ids_path = path.with_suffix(".ids")
        self._path = path
        self._ids = ids
        self._synced = 0.0

    def begin(self) -> None:
        """Record the beginning, so that a run after a crash uses the same keys. Raises OSError."""
        # Ids of a batch that was not recorded will come again.
        os.ftruncate(self._ids.fileno(), self.progress.ids_bytes)
        self._write(durable=True)

    def advance(self, line: int, ids: Sequence[str]) -> None:
        """Record that the rows up to a line are enqueued. Raises OSError."""
        text = "".join(f"{one}\n" for one in ids).encode()
        self._ids.write(text)
        self._ids.flush()
        self.progress.line = line
        self.progress.ids_bytes += len(text)
        self.progress.updated = time.time()
        self._write(durable=time.monotonic() - self._synced >= FSYNC_EVERY_S)

    def finish(self) -> None:
        """Record that the file is enqueued completely. Raises OSError."""
        self.progress.finished = self.progress.updated = time.time()
        self._write(durable=True)

    def _write(self, *, durable: bool) -> None:
        new = self._path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(self.progress), file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
                os.fsync(self._ids.fileno())
                self._synced = time.monotonic()
        new.replace(self._path)


@contextmanager
def open_checkpoint(
    folder: Path,
    name: str,
    options: Mapping[str, Any],
    *,
    anew: bool = False,
    follow: bool = False,
    once: bool = False,
) -> Iterator[Checkpoint]:
    """Open a file's checkpoint, new or where it was left, and lock it.

    `name` stands for the file. `anew` discards an old one, but not one that was itself begun anew
    and interrupted: the same command resumes that. `follow` opens a finished one too. `once` is
    for input that cannot be resumed. Raises NotAgain and BadFile.
    """
    path = folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ids = path.with_suffix(".ids").open("ab")
    except OSError as error:
        raise BadFile(f"{folder} (SMSQ_HOME) cannot be written: {error.strerror}") from None
    with ids:
        try:
            fcntl.flock(ids, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise NotAgain("another run is sending this file now") from None
        progress = None if once else _read(path)
        digest = _digest(options)
        if progress and not (anew and (progress.finished or not progress.run)):
            _check(progress, digest, path, follow=follow)
        else:
            run = secrets.token_hex(8) if anew else ""
            progress = Progress(options=digest, run=run, started=time.time(), updated=time.time())
        if os.fstat(ids.fileno()).st_size < progress.ids_bytes:
            raise _damaged(path.with_suffix(".ids"))
        yield Checkpoint(path, ids, progress)


def _check(progress: Progress, options: str, path: Path, *, follow: bool) -> None:
    """Raise NotAgain unless the run can be resumed."""
    if progress.finished is not None:
        if not follow:
            raise NotAgain(
                f"the file was sent already: {_moment(progress.finished)}. Nothing was sent now; "
                "--wait follows its messages, --anew sends all of it once more"
            )
        return
    once_more = (
        f"{f'remove {path} and ' * bool(progress.run)}pass --anew to send all of it once more"
    )
    if progress.options != options:
        raise NotAgain(
            f"the file was sent up to line {progress.line}, with other options; resume with the "
            f"same ones, or {once_more}"
        )
    if time.time() - progress.updated > KEY_TTL_S - _MARGIN_S:
        raise NotAgain(
            f"the file was sent up to line {progress.line}, until {_moment(progress.updated)}. The "
            "next rows may have been enqueued too, and their keys are forgotten after 24 h, so "
            "they could be sent twice. Send the lines after it as a separate file, or "
            f"{once_more}"
        )


def _read(path: Path) -> Progress | None:
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> BadFile:
    return BadFile(
        f"{path} is damaged. Remove {path.stem}.json to send the file from its beginning: rows "
        "that were enqueued in the last 24 h are then refused as duplicates"
    )


def _digest(options: Mapping[str, Any]) -> str:
    text = json.dumps(options, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
