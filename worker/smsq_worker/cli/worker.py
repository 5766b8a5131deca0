"""`smsq worker`: Celery's own worker on our app."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker(options: tuple[str, ...]) -> None:
    """Start a Celery worker; takes Celery's own options."""
    # In place of this process, so that signals reach Celery itself.
    command = [sys.executable, "-m", "celery", "-A", "smsq_worker", "worker", *options]
    os.execv(sys.executable, command)  # noqa: S606
