"""The entry point of `smsq`."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import click


def main() -> None:
    """Run the command line. Exits with 0, 1 (refused, failed) or 2 (usage, settings)."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's charset lacks is escaped: a traceback would hide the answer.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("_SMSQ_COMPLETE"):
        _complete()
    try:
        import click  # noqa: F401
        import requests  # noqa: F401
    except ImportError:
        sys.stderr.write("smsq: the command line needs more packages: pip install 'smsq[worker]'\n")
        sys.exit(2)
    from smsq.errors import InvalidMessage, SettingsError, SmsqError
    from smsq_worker.cli.helpers.output import fail
    from smsq_worker.cli.helpers.told import told
    from smsq_worker.i18n import Lang, speaking

    with speaking(Lang.of(os.environ)):
        try:
            group()(prog_name="smsq")
        except SettingsError as error:
            fail("\n".join(f"smsq: {told(problem)}" for problem in error.problems), 2)
        except SmsqError as error:
            fail(f"smsq: {told(str(error))}", 2 if isinstance(error, InvalidMessage) else 1)


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
