"""Connections of an event loop to Redis, each to one server or to the primary of Sentinels.

redis-py's own timeouts are off: below Python 3.12 its way to write in time can swallow that a task
was cancelled, and so a deadline. It also closes gracefully, which waits for a silent server.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import redis
from redis.asyncio import Connection, SSLConnection
from redis.exceptions import ReadOnlyError, ResponseError
from redis.sentinel import MasterNotFoundError

from smsq import redis_urls
from smsq.boottime import now_s
from smsq.redis_urls import Sentinels
from smsq.steps import as_dict

Result = TypeVar("Result")

CONNECT_S: Final = 2.0
"""For one address of a name, so that there is time for the next."""


async def bounded(seconds: float, awaited: Awaitable[Result], what: str) -> Result:
    """Await it for so long at most. Raises redis.TimeoutError."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await awaited
    except TimeoutError:
        if not limit.expired():
            raise
        raise redis.TimeoutError(what) from None


class _Abrupt:
    """A connection that is closed at once, and whose every answer has its time."""

    host: str
    port: int
    _parser: Any
    _reader: Any
    _writer: Any
    _host_error: Any

    def __init__(self, *, try_s: float, **options: Any) -> None:
        self.try_s = try_s
        self.used_at = now_s()
        self._address = ""
        # Spoilt bytes in one field of a message must not hide the others.
        own = {"decode_responses": True, "encoding_errors": "replace"}
        own |= {"socket_timeout": None, "socket_connect_timeout": None}
        super().__init__(**own, **options)

    def drop(self) -> Any:
        """Close at once, without a word to the server; return what can be waited for."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            self._parser.on_disconnect()
            writer.transport.abort()
        return writer

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close at once."""
        self.drop()
        await super().disconnect(*args, **options)  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer."""
        asked = super().read_response(*args, **options)  # type: ignore[misc]
        try:
            return await bounded(self.try_s, asked, f"Timeout reading from {self._host_error()}")
        except ReadOnlyError:
            # As _LeavingReplica says.
            self.drop()
            raise redis.ConnectionError("the server has become a replica") from None

    async def _connect(self) -> None:
        """Connect to the first address that answers."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        failed: Exception = OSError("no address")
        for self._address in addresses:
            try:
                connecting = super()._connect()  # type: ignore[misc]
                within_s = min(CONNECT_S, self.try_s)
                return await bounded(within_s, connecting, "Timeout connecting to server")
            except (OSError, redis.TimeoutError) as error:
                failed = _in_words(error)
        raise failed

    def _connection_arguments(self) -> dict[str, Any]:
        given = {**super()._connection_arguments(), "host": self._address}  # type: ignore[misc]
        return given | {"server_hostname": self.host} if "ssl" in given else given


def _in_words(error: Exception) -> Exception:
    """Return an error that says what is wrong, in place of asyncio's that names the address."""
    if isinstance(error, OSError) and str(error.strerror).startswith("Connect call failed"):
        return OSError(error.errno, os.strerror(error.errno or 0))
    return error


class AsyncConnection(_Abrupt, Connection):
    """A connection to a server."""


class AsyncTlsConnection(_Abrupt, SSLConnection):
    """The same over TLS."""

    ssl_context: Any

    async def _connect(self) -> None:
        # It reads all authorities of the system.
        await asyncio.to_thread(self.ssl_context.get)
        await super()._connect()


class _Primary:
    """A connection that asks the Sentinels for the primary each time it is made anew."""

    def __init__(self, *, sentinels: AskedSentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.primary()
        await super()._connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            # Its replicas may have gone to another primary.
            self.drop()  # type: ignore[attr-defined]
            raise redis.ConnectionError(str(error)) from None


class AsyncPrimaryConnection(_Primary, AsyncConnection):
    """A connection to the primary."""


class AsyncTlsPrimaryConnection(_Primary, AsyncTlsConnection):
    """The same over TLS."""


class AskedSentinels:
    """Sentinels, the one first that answered last."""

    def __init__(self, at: Sentinels) -> None:
        self._service = at.service
        self._hosts = list(at.hosts)
        self._kind = AsyncTlsConnection if at.tls else AsyncConnection
        self._options = {**at.tls, **at.login}

    async def primary(self) -> tuple[str, int]:
        """Return the primary's address. Raises MasterNotFoundError."""
        failures = []
        for host, port in list(self._hosts):
            try:
                services = await self._services(host, port)
            except redis.RedisError as error:
                failures.append(str(error))
                continue
            primary = services.get(self._service)
            if primary and _is_up(primary["flags"]):
                # Those that are away would cost their timeout at each connection.
                self._hosts = sorted(self._hosts, key=lambda one: one != (host, port))
                return primary["ip"], int(primary["port"])
            failures.append("the primary is down" if primary else f"no service {self._service!r}")
        raise MasterNotFoundError(f"no Sentinel names a primary: {'; '.join(failures)}")

    async def _services(self, host: str, port: int) -> dict[str, dict[str, str]]:
        connection: Any = self._kind(
            host=host, port=port, try_s=redis_urls.TIMEOUT_S, **self._options
        )
        try:
            await connection.connect()
            await connection.send_packed_command(connection.pack_command("SENTINEL", "MASTERS"))
            rows = await connection.read_response()
        finally:
            connection.drop()
        return {row["name"]: row for row in map(as_dict, rows)}


def _is_up(flags: str) -> bool:
    found = set(flags.split(","))
    return "master" in found and found.isdisjoint({"s_down", "o_down"})
