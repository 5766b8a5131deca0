"""The command line, `smsq`. Each command is a module of this package, imported when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click

COMMANDS: Final = {
    "demo": "Send messages of all kinds through everything, and check every end.",
    "up": "Run everything on this machine until Ctrl-C.",
    "worker": "Start a Celery worker; takes Celery's own options.",
    "serve": "Serve the HTTP API: reports in, status out.",
    "sandbox": "Run a gateway that behaves as the vendor's does, and sends no SMS.",
    "flower": "Start Flower with smsq's settings; takes Flower's own options.",
    "send": "Enqueue one message.",
    "send-file": "Enqueue the messages of a file, CSV or JSON Lines.",
    "status": "Show the whole at a glance, or what is known of a message.",
    "explain": "Tell what happened to a message, by id, mid or number, and what is next.",
    "rate": "Show or set the calls a second of all workers together.",
    "pause": "Stop sending: all of it, or one template.",
    "resume": "Go on sending after a pause, whoever began it.",
    "suppressed": "List the numbers to which nothing is sent; add, remove, import, export.",
    "held": "List messages in doubt; resend or drop them.",
    "parked": "List reports whose mid nobody knows.",
    "notices": "List outcomes that a receiver did not take; replay or drop them.",
    "codes": "List the stat codes, or explain one.",
    "completion": "Print what makes a shell complete commands and options.",
    "doctor": "Look at everything, and say what to change.",
}


def main() -> None:
    """Run the command line. Exits with 0, 1 (not so) or 2 (usage, settings)."""
    completes = bool(os.environ.get("_SMSQ_COMPLETE"))
    try:
        if completes:
            from smsq_worker.cli.helpers.completing import answer

            answer()
        import click
        import requests  # noqa: F401
    except ImportError:
        if completes:
            sys.exit(1)
        sys.stderr.write("smsq: the command line needs more packages: pip install 'smsq[worker]'\n")
        sys.exit(2)
    from smsq.errors import InvalidMessage, SettingsError, SmsqError

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
    """Give the command line as click runs it."""
    from smsq_worker.cli.helpers.groups import Group

    class Commands(Group):
        """Commands that are imported when they are used."""

        def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
            return list(COMMANDS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
            if cmd_name not in COMMANDS:
                return None
            name = cmd_name.replace("-", "_")
            module = importlib.import_module(f"smsq_worker.cli.commands.{name}")
            command: click.Command = getattr(module, name)
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
            with formatter.section("Commands"):
                formatter.write_dl(list(COMMANDS.items()))

    return Commands("smsq", help="SMS through Celery workers, with a ledger that knows the end.")
