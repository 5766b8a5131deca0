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
_NO_EFFECT: Final = {
    "--time-limit": "every attempt has its own deadline, SMSQ_READ_TIMEOUT_S",
    "--soft-time-limit": "every attempt has its own deadline, SMSQ_READ_TIMEOUT_S",
    "--max-tasks-per-child": "a worker has no child processes",
    "--max-memory-per-child": "a worker has no child processes",
}
_NOT_TESTED: Final = {
    "--prefetch-multiplier": "a lane full of bulk can keep an otp waiting with it",
    "--disable-prefetch": "a lane full of bulk can keep an otp waiting with it",
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
    given = {name for name in (*_NO_EFFECT, *_NOT_TESTED) if vars(found)[_field(name)] is not None}
    yield from (f"{name} has no effect: {why}" for name, why in _NO_EFFECT.items() if name in given)
    yield from (
        f"{name} is not tested: {why}" for name, why in _NOT_TESTED.items() if name in given
    )
    if unknown := _queues(found) - set(QUEUES):
        yield f"--queues: {_unknown(unknown)}"


def _read(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-P", "--pool", default=POOL, nargs="?")
    parser.add_argument("-Q", "--queues", action="append", nargs="?", default=[])
    parser.add_argument("--purge", "--discard", action="store_true")
    for name in ("--autoscale", *_NO_EFFECT, "--prefetch-multiplier"):
        parser.add_argument(name, nargs="?", const="")
    parser.add_argument("--disable-prefetch", action="store_const", const="")
    return parser.parse_known_args(arguments)[0]


def _field(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _queues(found: Namespace) -> set[str]:
    return {part.strip() for text in found.queues if text for part in text.split(",")} - {""}


def _unknown(queues: set[str]) -> str:
    named, hints = (
        ", ".join(sorted(queues)),
        (did_you_mean(name, QUEUES) for name in sorted(queues)),
    )
    words = f"{named}: no queue of smsq's, which are {', '.join(QUEUES)}"
    return "; ".join([words, *filter(None, hints)])
