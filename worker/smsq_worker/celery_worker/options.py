"""Options of Celery's worker that it cannot be started with here."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Final

POOL: Final = "threads"
INSTEAD: Final = "`smsq worker --concurrency N` sets how many attempts are under way at once"


def refused(arguments: Sequence[str]) -> list[str]:
    """Return what is wrong with a worker's arguments, a line for each problem.

    Other pools would run a sender in each child process (prefork), or let callbacks to slow
    endpoints keep otps waiting (solo); gevent and eventlet replace the threads that send.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-P", "--pool", default=POOL, nargs="?")
    parser.add_argument("--autoscale", nargs="?", const="")
    found, _ = parser.parse_known_args(arguments)
    problems = []
    if found.pool not in {POOL, None}:
        problems.append(f"--pool {found.pool}: workers send by threads only; {INSTEAD}")
    if found.autoscale is not None:
        problems.append(f"--autoscale: threads are begun as they are needed; {INSTEAD}")
    return problems
