"""Files for their owner alone, that are never written through somebody's symbolic link.

A name in a folder that others may write to can be a link to any file of the user's by the time it
is opened. So the file is always a new one, under a name that nobody can guess, and then takes its
place by a rename, which replaces a link instead of following it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def private_opener(path: str, flags: int) -> int:
    """Open a new file with mode 0600, for `open` and FileIO."""
    return os.open(path, flags, 0o600)


@contextmanager
def private_file(
    path: Path, encoding: str, *, at_once: bool = False, errors: str = "strict"
) -> Iterator[TextIO]:
    """Open a text file with mode 0600 that replaces an older one when it is complete, or at once.

    Pipes and devices are written to as they are. Raises OSError, also for a link to a file.
    """
    if _is_link_or_other(path):
        with _open(_opened_pipe(path), encoding, errors) as file:
            yield file
        return
    new = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with _open(handle, encoding, errors) as file:
            if at_once:
                new.replace(path)
            yield file
        if not at_once:
            new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _open(handle: int, encoding: str, errors: str) -> TextIO:
    return os.fdopen(handle, "w", encoding=encoding, errors=errors, newline="")


def _is_link_or_other(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _opened_pipe(path: Path) -> int:
    """Open what is neither a file nor leads to one, such as /dev/stdout in a pipeline."""
    try:
        # Without O_TRUNC: it is seen only now what it leads to.
        handle = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        raise OSError(0, "it is a symbolic link that leads nowhere") from None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(0, "it is a symbolic link to a file; name the file itself")
    return handle
