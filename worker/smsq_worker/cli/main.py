"""The entry point of `smsq`."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

if TYPE_CHECKING:
    import click

_STOPPED: Final = 130
"""What a shell reports for a command that Ctrl-C ended."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def main() -> None:
    """Run the command line. Exits with 0, 1 (refused, failed) or 2 (usage, settings)."""
    try:
        _main()
    except KeyboardInterrupt:  # While modules were imported; later click and commands take it.
        sys.exit(_STOPPED)


def _main() -> None:
    _prepare_streams()
    if os.environ.get("_SMSQ_COMPLETE"):
        _complete()
    try:
        import click  # noqa: F401
        import requests  # noqa: F401
    except ImportError:
        sys.stderr.write("smsq: the command line needs more packages: pip install 'smsq[worker]'\n")
        sys.exit(2)
    from smsq.errors import SettingsError, SmsqError
    from smsq_worker.cli.helpers.output import fail
    from smsq_worker.i18n import Lang, _, speaking
    from smsq_worker.i18n.told import told

    with speaking(Lang.of(os.environ)):
        try:
            group()(prog_name="smsq")
        except SettingsError as error:
            fail("\n".join(f"smsq: {told(problem)}" for problem in error.problems), 2)
        except SmsqError as error:
            fail(f"smsq: {told(str(error))}", 2 if isinstance(error, ValueError) else 1)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            fail("smsq: " + _("cannot write: {error}", error=error.strerror))


def _prepare_streams() -> None:
    # Python has none where it was started with one closed, as by some supervisors.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's charset lacks is escaped: a traceback would hide the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def group() -> click.Group:
    """Return the command line as click runs it."""
    from smsq_worker.cli.helpers.lazy_group import LazyGroup

    return LazyGroup(
        "smsq", help="Send SMS through Celery workers, with a ledger of every outcome."
    )


def _complete() -> NoReturn:
    """Answer a shell's request for completions by click's protocol.

    Errors are not printed: they would appear in the middle of the line that is being typed.
    """
    try:
        group()(prog_name="smsq")
    except Exception:  # noqa: BLE001
        sys.exit(1)
    sys.exit(0)
