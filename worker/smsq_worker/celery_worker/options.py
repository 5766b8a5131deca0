"""Options of Celery's worker that it cannot be started with here, or that do nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any, Final

from celery.concurrency.thread import TaskPool

from smsq.app import QUEUES
from smsq.suggestions import did_you_mean

POOL: Final = "threads"
INSTEAD: Final = "`smsq worker --concurrency N` sets how many attempts are under way at once"
_DOUBTFUL: Final = {
    "--time-limit": "has no effect: every attempt has its own deadline, SMSQ_READ_TIMEOUT_S",
    "--soft-time-limit": "has no effect: every attempt has its own deadline, SMSQ_READ_TIMEOUT_S",
    "--max-tasks-per-child": "has no effect: a worker has no child processes",
    "--max-memory-per-child": "has no effect: a worker has no child processes",
    "--prefetch-multiplier": "is not tested: a lane full of bulk can keep an otp waiting with it",
    "--disable-prefetch": "is not tested: a lane full of bulk can keep an otp waiting with it",
}


def refused(arguments: Sequence[str]) -> list[str]:
    """Return what is wrong with a worker's arguments, a line for each problem.

    Other pools would run a sender in each child process (prefork), or let callbacks to slow
    endpoints keep otps waiting (solo); gevent and eventlet replace the threads that send.
    """
    found = _read(arguments)
    problems = []
    if found.pool not in {POOL, None}:
        problems.append(f"--pool {found.pool}: workers send by threads only; {INSTEAD}")
    if found.concurrency.startswith("-") and found.concurrency[1:].strip("0").isdigit():
        problems.append(f"--concurrency {found.concurrency}: no attempt could be made; {INSTEAD}")
    if found.autoscale is not None:
        problems.append(f"--autoscale: threads are begun as they are needed; {INSTEAD}")
    if found.purge:
        problems.append(
            "--purge: it would delay messages and drop none, as they are in the ledger; "
            "`smsq pause` stops sending"
        )
    queues = _queues(found)
    if queues and not queues & set(QUEUES):
        problems.append(f"--queues: {_unknown(queues)}")
    return problems


def refused_pool(pool: Any) -> list[str]:
    """Return what is wrong with the pool that Celery has made of all its options."""
    if not isinstance(pool, type) or issubclass(pool, TaskPool):
        return []
    name = pool.__module__.rpartition(".")[2]
    return [f"--pool {name}: workers send by threads only; {INSTEAD}"]


def doubtful(arguments: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each of a worker's arguments that does nothing, or was not tested."""
    found = _read(arguments)
    for name, why in _DOUBTFUL.items():
        if getattr(found, name.removeprefix("--").replace("-", "_")) is not None:
            yield f"{name} {why}"
    if unknown := _queues(found) - set(QUEUES):
        yield f"--queues: {_unknown(unknown)}"


def _read(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-P", "--pool", default=POOL, nargs="?")
    parser.add_argument("-c", "--concurrency", default="", nargs="?", const="")
    parser.add_argument("-Q", "--queues", action="append", nargs="?", default=[])
    parser.add_argument("--purge", "--discard", action="store_true")
    for name in ("--autoscale", *_DOUBTFUL):
        parser.add_argument(name, nargs="?", const="")
    return parser.parse_known_args(arguments)[0]


def _queues(found: Namespace) -> set[str]:
    return {part.strip() for text in found.queues if text for part in text.split(",")} - {""}


def _unknown(queues: set[str]) -> str:
    words = f"{', '.join(sorted(queues))}: no queue of smsq's, which are {', '.join(QUEUES)}"
    return "; ".join([words, *filter(None, (did_you_mean(one, QUEUES) for one in sorted(queues)))])
