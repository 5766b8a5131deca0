"""`smsq worker`: Celery's own worker on our app."""

from __future__ import annotations

import os
import sys

import click

from smsq_worker.cli.helpers.wrapped import introduce

# What follows \b is printed as it stands.
_EXAMPLES = """\b
Examples:
  smsq worker
  smsq worker --loglevel WARNING --concurrency 96
  smsq worker -Q sms.otp,sms.report      a machine for otp alone
"""


@click.command(
    epilog=_EXAMPLES,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", metavar="", nargs=-1, type=click.UNPROCESSED)
def worker(options: tuple[str, ...]) -> None:
    """Start a Celery worker; takes Celery's own options, which stand below.

    Exits with 2 where a setting is wrong; else with what Celery's worker exits.
    """
    introduce(options)
    # In place of this process, so that signals reach Celery itself.
    command = [sys.executable, "-m", "celery", "-A", "smsq_worker", "worker", *options]
    os.execv(sys.executable, command)  # noqa: S606
