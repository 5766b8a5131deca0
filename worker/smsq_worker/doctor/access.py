"""Asking a Redis server, and telling in plain words why it did not answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

import redis

from smsq.connection import Client, connect_impatiently
from smsq.deadline import DeadlineExceeded
from smsq.settings import shown_url
from smsq_worker.doctor.finding import Finding, error, ok, one_line, warning

TIMEOUT_S: Final = 3.0
_SILENT: Final = (redis.TimeoutError, DeadlineExceeded)


def asking(
    url: str,
    setting: str,
    ask: Callable[[Client], Iterator[Finding]],
    *,
    follows: bool = False,
) -> Iterator[Finding]:
    """Ask a server; where it does not answer, that is the finding.

    `setting` names the server's URL. With `follows` another part tells that the server is away,
    so here that is only the reason why nothing is known.
    """
    try:
        with closing(connect_impatiently(url, TIMEOUT_S)) as client:
            if not follows:
                client.time()
                yield ok(f"{shown_url(url)} answers")
            yield from ask(client)
    except (redis.ConnectionError, *_SILENT) as problem:
        if follows:
            yield warning(f"not known: {_why(problem)}", "see what is said of the server")
        else:
            yield error(f"{shown_url(url)}: {_why(problem)}", _advice(problem, setting))
    except redis.RedisError as problem:
        yield error(f"{shown_url(url)}: {_why(problem)}", _advice(problem, setting))


def _why(problem: redis.RedisError) -> str:
    if isinstance(problem, _SILENT):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(problem, redis.AuthenticationError):
        return "the user or the password is refused"
    return re.sub(r"^User \S+ has", "the user has", one_line(problem))


def _advice(problem: redis.RedisError, setting: str) -> str:
    if isinstance(problem, redis.AuthenticationError):
        return f"put the right user and password into {setting}"
    if isinstance(problem, redis.exceptions.NoPermissionError):
        return f"give the user of {setting} the right to all commands and keys but CONFIG"
    if isinstance(problem, (redis.ConnectionError, *_SILENT)):
        return f"start the server, open the way to it, or correct {setting}"
    return f"look at the server's log, and whether {setting} names the server and database meant"
