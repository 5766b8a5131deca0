"""How far the sending of a file has come, on the disk: <SMSQ_HOME>/send-file/<digest>.json.

Beside it, in <digest>.ids, are the ids of the messages, one a line in the order of the rows. Both
hold no number and no code. What is noted was enqueued for certain; the batch after it may have
been, and is enqueued again under the same keys, which the ledger refuses where it has them.
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
from smsq_worker.bulk_import.source import BadFile

FSYNC_EVERY_S: Final = 1.0
"""What a crash of the machine may take is enqueued again, and refused by its keys."""
_MARGIN_S: Final = 1800
"""For the check of the file, which comes before the keys are needed."""


class NotAgain(Exception):  # noqa: N818 - says what is so
    """The file is not to be sent now; the text says why, and what can be done."""


@dataclass(slots=True)
class Noted:
    """What is kept between runs. Times are Unix seconds."""

    options: str
    """Digest of the arguments that rows take from the command line."""
    run: str
    """Part of the keys of rows that have none."""
    started: float
    updated: float
    line: int = 0
    """The last one of which the row is enqueued."""
    enqueued: int = 0
    before: int = 0
    """Rows that turned out to have been enqueued by an earlier run, which was broken off."""
    duplicates: int = 0
    """Rows whose own key another message held."""
    ids_bytes: int = 0
    finished: float | None = None

    @property
    def done(self) -> int:
        """Count the rows that are enqueued or were refused as duplicates."""
        return self.enqueued + self.before + self.duplicates


class Campaign:
    """One file's way into the ledger; made by `campaign`."""

    def __init__(self, path: Path, ids: IO[bytes], noted: Noted) -> None:
        self.noted = noted
        self.ids = path.with_suffix(".ids")
        """Where the messages' ids are."""
        self._path = path
        self._ids = ids
        self._synced = 0.0

    def begin(self) -> None:
        """Note the beginning, so that a run after a crash has the same keys. Raises OSError."""
        # Ids of a batch that was not noted will come again.
        os.ftruncate(self._ids.fileno(), self.noted.ids_bytes)
        self._keep(durable=True)

    def note(self, line: int, ids: Sequence[str]) -> None:
        """Note that the rows up to a line are enqueued. Raises OSError."""
        text = "".join(f"{one}\n" for one in ids).encode()
        self._ids.write(text)
        self._ids.flush()
        self.noted.line = line
        self.noted.ids_bytes += len(text)
        self.noted.updated = time.time()
        self._keep(durable=time.monotonic() - self._synced >= FSYNC_EVERY_S)

    def finish(self) -> None:
        """Note that the whole file is enqueued. Raises OSError."""
        self.noted.finished = self.noted.updated = time.time()
        self._keep(durable=True)

    def _keep(self, *, durable: bool) -> None:
        new = self._path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(self.noted), file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
                os.fsync(self._ids.fileno())
                self._synced = time.monotonic()
        new.replace(self._path)


@contextmanager
def campaign(
    folder: Path,
    name: str,
    options: Mapping[str, Any],
    *,
    anew: bool = False,
    follow: bool = False,
    once: bool = False,
) -> Iterator[Campaign]:
    """Give a file's campaign, new or where it was left; nobody else has it meanwhile.

    `name` stands for the file. `anew` leaves an old one, but not one that was itself begun anew
    and broken off: the same command goes on with that. `follow` takes a finished one too. `once`
    is for what cannot be gone on with. Raises NotAgain and BadFile.
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
        noted = None if once else _read(path)
        digest = _digest(options)
        if noted and not (anew and (noted.finished or not noted.run)):
            _check(noted, digest, path, follow=follow)
        else:
            run = secrets.token_hex(8) if anew else ""
            noted = Noted(options=digest, run=run, started=time.time(), updated=time.time())
        if os.fstat(ids.fileno()).st_size < noted.ids_bytes:
            raise _damaged(path.with_suffix(".ids"))
        yield Campaign(path, ids, noted)


def _check(noted: Noted, options: str, path: Path, *, follow: bool) -> None:
    """Raise NotAgain unless the run can go on."""
    if noted.finished is not None:
        if not follow:
            raise NotAgain(
                f"the file was sent already: {_moment(noted.finished)}. Nothing was sent now; "
                "--wait follows its messages, --anew sends all of it once more"
            )
        return
    once_more = f"{f'remove {path} and ' * bool(noted.run)}say --anew to send all of it once more"
    if noted.options != options:
        raise NotAgain(
            f"the file is sent up to line {noted.line}, with other options; go on with the same "
            f"ones, or {once_more}"
        )
    if time.time() - noted.updated > KEY_TTL_S - _MARGIN_S:
        raise NotAgain(
            f"the file was sent up to line {noted.line}, until {_moment(noted.updated)}. The rows "
            "next to it may have been enqueued too, and their keys are forgotten after 24 h, so "
            "they could be sent twice. Send the lines after it as a file of their own, or "
            f"{once_more}"
        )


def _read(path: Path) -> Noted | None:
    try:
        return Noted(**json.loads(path.read_text(encoding="utf-8")))
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
