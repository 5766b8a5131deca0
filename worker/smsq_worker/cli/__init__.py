"""The command line, `smsq`."""

from smsq_worker.cli.commands import COMMANDS
from smsq_worker.cli.main import group, main

__all__ = ["COMMANDS", "group", "main"]
