"""Commands that are Celery's, with its own options."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from smsq_worker.cli.helpers.output import echo_own


class CeleryCommand(click.Command):
    """A command that passes all its words on to Celery, --help among them."""

    def __init__(self, name: str, **attributes: Any) -> None:
        attributes |= {
            "params": [click.Argument(["options"], nargs=-1, metavar="", type=click.UNPROCESSED)],
            "context_settings": {"ignore_unknown_options": True, "help_option_names": []},
            "add_help_option": False,
        }
        super().__init__(name, **attributes)

    def invoke(self, ctx: click.Context) -> Any:
        """Print our own help first, above that of Celery, if it is asked for."""
        if "--help" in ctx.params["options"]:
            echo_own(f"{ctx.get_help()}\n")
        return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Offer the one option that is not Celery's alone."""
        return [CompletionItem("--help")] if "--help".startswith(incomplete) else []


def exec_celery(*words: str) -> NoReturn:
    """Replace this process with Celery, so that signals reach it directly."""
    command = [sys.executable, "-m", "celery", "-A", "smsq_worker", *words]
    os.execv(sys.executable, command)  # noqa: S606
