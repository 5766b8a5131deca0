"""How async calls reach Redis: over connections of their event loop, within their deadline."""

from __future__ import annotations

import asyncio
import math
import os
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import redis
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff

from smsq import deadline, redis_urls
from smsq.async_redis_connections import (
    AskedSentinels,
    AsyncConnection,
    AsyncPrimaryConnection,
    AsyncTlsConnection,
    AsyncTlsPrimaryConnection,
    bounded,
)
from smsq.boottime import now_s
from smsq.connection import NOT_SENT, keepalive
from smsq.deadline import DeadlineExceeded
from smsq.steps import RECONNECT, Answers, Commands

Result = TypeVar("Result")

CONNECTIONS_AT_MOST: Final = 32
"""Of an event loop; further calls wait for one, within their deadlines."""
CLOSED_WITHIN_S: Final = 1.0


class AsyncClient:
    """The connections of one event loop.

    Each is used by one call at a time, and only what has had all its answers is used again: the
    rest of an answer would be taken for the next call's.
    """

    def __init__(self, make: Callable[[], Any], idle_s: float) -> None:
        self.pid = os.getpid()
        self._make = make
        self._idle_s = idle_s
        self._kept: list[Any] = []
        """The one used last is the last."""
        self._places = asyncio.Semaphore(CONNECTIONS_AT_MOST)

    async def exchange(self, commands: Commands) -> Answers:
        """Send commands in one go and return their answers, of which some may be errors.

        If the task is cancelled, what was being written may or may not be in, as after an answer
        that did not come in time.
        """
        if commands is RECONNECT:
            self.drop_kept()
            return []
        await _unsent(self._places.acquire)
        connection = None
        try:
            connection = self._take()
            if not connection.is_connected:
                await _unsent(lambda: _again(connection, connection.connect))
            answers = await _in_time(lambda: _again(connection, lambda: _try(connection, commands)))
        except BaseException:
            # It may have been interrupted between question and answer.
            if connection is not None:
                connection.drop()
            raise
        finally:
            self._places.release()
        connection.used_at = now_s()
        self._kept.append(connection)
        return answers

    def drop_kept(self) -> list[Any]:
        """Close what is not in use; return what can be waited for."""
        writers = [connection.drop() for connection in self._kept]
        self._kept.clear()
        return writers

    def _take(self) -> Any:
        while self._kept:
            connection = self._kept.pop()
            if now_s() - connection.used_at <= self._idle_s:
                return connection
            connection.drop()  # A firewall may have forgotten it.
        return self._make()


_OPEN: Final[dict[AsyncClient, tuple[AbstractEventLoop, AsyncGenerator[None, None]]]] = {}
"""Each with its loop. A forked process keeps its parent's: to close them would disturb its loop."""


class AsyncClients:
    """A client of a server for each event loop, until the loop ends."""

    def __init__(self, url: str, *, idle_s: float, try_s: float) -> None:
        self._make = _maker(url, try_s)
        self._idle_s = idle_s
        self._by_loop: WeakValueDictionary[AbstractEventLoop, AsyncClient] = WeakValueDictionary()

    def of_running_loop(self) -> AsyncClient:
        """Return the client of the event loop that runs here."""
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None or client.pid != os.getpid():
            _forget_ended()
            self._by_loop[loop] = client = AsyncClient(self._make, self._idle_s)
            _close_with(loop, client)
        return client


def _close_with(loop: AbstractEventLoop, client: AsyncClient) -> None:
    """Close a client when its loop ends, which closes its async generators: this is one."""
    ending = _ending(client)
    _OPEN[client] = loop, ending
    # The loop hears of it when it begins.
    with suppress(StopIteration):
        ending.asend(None).send(None)


async def _ending(client: AsyncClient) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        closing = [writer.wait_closed() for writer in client.drop_kept() if writer]
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await asyncio.gather(*closing, return_exceptions=True)
        _OPEN.pop(client, None)


def _forget_ended() -> None:
    """Forget the clients of loops that were closed without that."""
    for client, (loop, _) in list(_OPEN.items()):
        if loop.is_closed() and client.pid == os.getpid():
            _OPEN.pop(client, None)


def _maker(url: str, try_s: float) -> Callable[[], Any]:
    """Return what makes a connection, which connects when told to."""
    options: dict[str, Any] = {
        "try_s": try_s,
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive(5.0),
    }
    kind: Callable[..., Any]
    if redis_urls.names_sentinels(url):
        at = redis_urls.read(url)
        kind = AsyncTlsPrimaryConnection if at.tls else AsyncPrimaryConnection
        options |= {**at.server_options, "sentinels": AskedSentinels(at)}
    else:
        kind = AsyncTlsConnection if url.startswith("rediss:") else AsyncConnection
        options |= redis.asyncio.connection.parse_url(url)
        options.pop("connection_class", None)
        if url.startswith("rediss:"):
            options |= redis_urls.tls_options(url.partition("?")[2])
    first: Any = kind(**options)

    def make() -> Any:
        connection: Any = kind(**options)
        if hasattr(first, "ssl_context"):
            # It takes long to make, as it reads files.
            connection.ssl_context = first.ssl_context
        return connection

    return make


async def _unsent(do: Callable[[], Awaitable[Result]]) -> Result:
    try:
        return await _in_time(do)
    except redis.RedisError as error:
        error.add_note(NOT_SENT)
        raise


async def _in_time(do: Callable[[], Awaitable[Result]]) -> Result:
    """Await it before the deadline. Raises DeadlineExceeded."""
    left_s = deadline.left_s()
    if left_s <= 0:
        raise DeadlineExceeded
    try:
        async with asyncio.timeout(None if left_s == math.inf else left_s) as limit:
            return await do()
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded from None


def _again(connection: Any, do: Callable[[], Awaitable[Result]]) -> Awaitable[Result]:
    """Repeat it after a lost connection, over a new one, as `connect` does."""
    retry = Retry(FullJitterBackoff(cap=0.5, base=0.05), 3)
    return retry.call_with_retry(do, lambda _: connection.disconnect())


async def _try(connection: Any, commands: Commands) -> Answers:
    if not connection.is_connected:
        await connection.connect()
    packed = connection.pack_commands(commands)
    sending = connection.send_packed_command(packed, check_health=False)
    await bounded(connection.try_s, sending, "Timeout writing to socket")
    return [await _answer(connection) for _ in commands]


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        # As `_answer` of a connection that blocks.
        return error.with_traceback(None)
