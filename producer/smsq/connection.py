"""How every part of smsq talks to Redis: clients, their errors, and waiting for replicas."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import redis
from redis.backoff import FullJitterBackoff
from redis.exceptions import AuthenticationError, OutOfMemoryError, ResponseError
from redis.retry import Retry

from smsq import deadline, redis_urls
from smsq.errors import LedgerFull, LedgerUnavailable
from smsq.functions import Script
from smsq.redis_connections import Connection, TlsConnection
from smsq.redis_pools import Pool
from smsq.sentinel import PrimaryConnection, TlsPrimaryConnection, primary_pool
from smsq.settings import IDLE_S, shown_url
from smsq.steps import RECONNECT, Answers, Commands, Steps, drive, unfailed

Result = TypeVar("Result")

Client = redis.Redis

REPLICATED_WITHIN_MS: Final = 1000


def user_timeout(after_s: float) -> dict[int, int]:
    """Return TCP options that drop what is not acknowledged in time; only Linux has them.

    Without them the system of a host that was cut off goes on sending what its processes gave up
    long ago, and a message is admitted with nobody there to send it.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    return {option: int(after_s * 1000)} if option else {}


def keepalive(after_s: float) -> dict[int, int]:
    """Return the same, and options that keep a connection known to the firewalls on its way."""
    found = {
        getattr(socket, name, None): value
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    }
    return {option: value for option, value in found.items() if option} | user_timeout(after_s)


def connect(
    url: str,
    *,
    idle_s: float = IDLE_S,
    try_s: float = 5.0,
    exchange_s: float = math.inf,
    retries: int = 3,
    encoding_errors: str = "strict",
) -> Client:
    """Return a client that connects when it is first used.

    Without timeouts a frozen server would block the caller for good. `try_s` is for one answer;
    `exchange_s` bounds all of one command or pipeline, with its retries; `deadline.within` bounds
    whatever is in its block. A connection idle for longer than `idle_s` is not used again.
    Commands are sent again after a lost connection, `retries` times; all scripts of smsq are safe
    against that.
    `encoding_errors` is what becomes of bytes that are no UTF-8, by the names of str.encode.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": encoding_errors,
        "idle_s": idle_s,
        "exchange_s": exchange_s,
        "socket_timeout": try_s,
        "socket_connect_timeout": min(2.0, try_s),
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive(5.0),
        "retry": Retry(FullJitterBackoff(cap=0.5, base=0.05), retries),
    }
    if not redis_urls.names_sentinels(url):
        tls = url.startswith("rediss:")
        options["connection_class"] = TlsConnection if tls else Connection
        if tls:
            options |= redis_urls.tls_options(url.partition("?")[2])
        return redis.Redis.from_pool(Pool.from_url(url, **options))
    at = redis_urls.read(url)
    options["connection_class"] = TlsPrimaryConnection if at.tls else PrimaryConnection
    return redis.Redis.from_pool(primary_pool(at, **at.server_options, **options))


def connect_impatiently(url: str, timeout_s: float) -> Client:
    """Return a client that fails soon, without a retry, and reads whatever others have written."""
    within = {"try_s": timeout_s, "exchange_s": timeout_s}
    return connect(url, **within, retries=0, encoding_errors="replace")


NOT_SENT: Final = "no connection came about, so nothing was sent"
"""A note on an error of an exchange."""
NOTHING_ENTERED: Final = "; nothing was entered"


class mapped_errors:  # noqa: N801 - it is used as a function
    """A block whose redis errors are raised as LedgerUnavailable.

    `doubt` is added to the text if the outcome is open; where nothing was sent, `certain` is.
    """

    __slots__ = ("_certain", "_doubt", "_url")

    def __init__(self, url: str, doubt: str = "", certain: str = NOTHING_ENTERED) -> None:
        self._url = url
        self._doubt = doubt
        self._certain = certain

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, redis.RedisError):
            return
        at = f"{shown_url(self._url)} (SMSQ_REDIS_URL)"
        if isinstance(error, OutOfMemoryError):
            raise LedgerFull(
                f"the ledger's Redis at {at} is full: it is at its maxmemory, and takes nothing new"
            ) from error
        is_certain = NOT_SENT in getattr(error, "__notes__", ())
        doubt = self._certain if self._doubt and is_certain else self._doubt
        what = f"did not answer: {str(error).rstrip('.')}{doubt}"
        if isinstance(error, AuthenticationError):
            what = f"rejected the user or the password{doubt}"
        if isinstance(error, ResponseError):
            # A server that lacks a command repeats what came with it: a number, and a code.
            error.args = (str(error).partition(", with args beginning with")[0],)
            what = f"refused the command: {error}"
        raise LedgerUnavailable(f"the ledger at {at} {what}") from error


def run(client: Client, act: Script, args: Sequence[Any] = (), keys: Sequence[Any] = ()) -> Any:
    """Run an act; return its answer."""
    return perform(client, running(act, args, 0, keys=keys))[0]


def running(
    act: Script, args: Sequence[Any], replicas: int, *, keys: Sequence[Any] = ()
) -> Steps[tuple[Any, bool]]:
    """Run an act; return its answer, and whether that many replicas have what it wrote.

    WAIT counts only what the same connection wrote, so both go over one. A script cannot wait
    itself.
    """
    arguments = (len(keys), *keys, *args)
    after: list[tuple[Any, ...]] = []
    if replicas:
        # 0 would be for ever. Less than half of the time, which is what one try has.
        within_ms = max(1, int(min(REPLICATED_WITHIN_MS, 400 * deadline.left_s())))
        after.append(("WAIT", replicas, within_ms))
    answers = unfailed((yield from act.run(arguments, after)))
    is_safe = not replicas or answers[1] >= replicas
    if not is_safe:
        # Its replicas may have gone to another primary: the next connection asks for that.
        yield RECONNECT
    return answers[0], is_safe


def perform(client: Client, steps: Steps[Result]) -> Result:
    """Take steps over a client's connections; return their result."""
    return drive(steps, lambda commands: exchange(client, commands))


def exchange(client: Client, commands: Commands) -> Answers:
    """Send commands in one go and return their answers, of which some may be errors.

    As redis-py's execute_command does it, with its retries over a new connection, but without what
    costs as much again: metrics, and callbacks that these commands have not.
    """
    pool: Any = client.connection_pool
    if commands is RECONNECT:
        pool.disconnect(inuse_connections=False)
        return []
    try:
        connection = pool.borrow()
    except redis.RedisError as error:
        error.add_note(NOT_SENT)
        raise
    try:
        answers: Answers = connection.retry.call_with_retry(
            lambda: _try(connection, commands), lambda _: connection.disconnect()
        )
    except BaseException:
        # It may have been interrupted between question and answer.
        connection.disconnect()
        pool.release(connection)
        raise
    pool.give_back(connection)
    return answers


def _try(connection: Any, commands: Commands) -> Answers:
    connection.send_packed_command(connection.pack_commands(commands))
    return [_answer(connection) for _ in commands]


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        # Its frames would keep the connection open for as long as somebody has the error.
        return error.with_traceback(None)
