"""Commands that are Celery's, with its own options."""

from __future__ import annotations

import os
import sys
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

celery_options: Final = click.argument("options", metavar="", nargs=-1, type=click.UNPROCESSED)


class CeleryCommand(click.Command):
    """A command that passes all its words on to Celery, --help among them."""

    def __init__(self, name: str, **attributes: Any) -> None:
        settings = {"ignore_unknown_options": True, "help_option_names": []}
        super().__init__(name, context_settings=settings, add_help_option=False, **attributes)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Offer the one option that is not Celery's alone."""
        return [CompletionItem("--help")] if "--help".startswith(incomplete) else []


def show_help(options: tuple[str, ...]) -> None:
    """Print our own help, above that of Celery, if it is asked for."""
    if "--help" in options:
        click.echo(f"{click.get_current_context().get_help()}\n")


def exec_celery(*words: str) -> NoReturn:
    """Replace this process with Celery, so that signals reach it directly."""
    command = [sys.executable, "-m", "celery", "-A", "smsq_worker", *words]
    os.execv(sys.executable, command)  # noqa: S606
