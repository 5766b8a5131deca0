"""The entry point of `smsq`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import click


def main() -> None:
    """Run the command line. Exits with 0, 1 (refused, failed) or 2 (usage, settings)."""
    if os.environ.get("_SMSQ_COMPLETE"):
        _complete()
    try:
        import click
        import requests  # noqa: F401
    except ImportError:
        sys.stderr.write("smsq: the command line needs more packages: pip install 'smsq[worker]'\n")
        sys.exit(2)
    from smsq.errors import InvalidMessage, SettingsError, SmsqError
    from smsq_worker.i18n import Lang, speaking

    with speaking(Lang.of(os.environ)):
        try:
            group()(prog_name="smsq")
        except SettingsError as error:
            for problem in error.problems:
                click.echo(f"smsq: {problem}", err=True)
            sys.exit(2)
        except SmsqError as error:
            click.echo(f"smsq: {error}", err=True)
            sys.exit(2 if isinstance(error, InvalidMessage) else 1)


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
