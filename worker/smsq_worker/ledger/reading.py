"""Reading what the ledger holds by commands of Redis' client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from redis.exceptions import NoPermissionError

from smsq.connection import Client, mapped_errors

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def asked(
    url: str, command: Callable[Given, Answer], *args: Given.args, **options: Given.kwargs
) -> Answer:
    """Return what a command, or what reads by the client, answers. Raises LedgerUnavailable."""
    with mapped_errors(url):
        return command(*args, **options)


def each(client: Client, command: str, names: Iterable[str], *more: str) -> list[Any]:
    """Return what a command answers for each of some keys. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.execute_command(command, name, *more)  # type: ignore[no-untyped-call]
        return pipe.execute()


def if_allowed(command: Callable[Given, Answer], *args: Given.args, **options: Given.kwargs) -> Any:
    """Return what a command answers; None where an ACL of an older release does not allow it."""
    try:
        return command(*args, **options)
    except NoPermissionError:
        return None
