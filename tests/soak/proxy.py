"""A TCP proxy that can forget its connections, as a NAT does, or stand in for its server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """A connection of a client and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_forgotten: bool = False
    is_idle: bool = True
    """Whether the last bytes came from the server."""

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        for writer in (self.client, self.server):
            own: socket.socket = writer.get_extra_info("socket")
            if own.fileno() >= 0:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class Proxy:
    """Forwards connections from one port of the loopback interface to another."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._answer = b""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen, in a thread."""
        ready, stop = Event(), asyncio.Event()
        thread = Thread(target=self._run, args=(self._serve(ready, stop),), name="proxy")
        thread.start()
        try:
            assert ready.wait(10), f"port {self.port} cannot be had"
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()

    def forget(self) -> int:
        """Swallow from now on what comes over the connections that exist; return their number.

        Neither side is told: no FIN, no RST. New connections are forwarded.
        """
        links = [link for link in list(self._links) if not link.is_forgotten]
        for link in links:
            link.is_forgotten = True
        return len(links)

    def close_idle(self) -> None:
        """Close the connections over which no answer is awaited."""
        for link in list(self._links):
            if link.is_idle and not link.is_forgotten:
                self._loop.call_soon_threadsafe(link.close)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections meanwhile; reset those that exist."""
        self._do(self._leave())
        try:
            yield
        finally:
            self._do(self._listen())

    @contextmanager
    def answering(self, answer: bytes) -> Iterator[None]:
        """Answer requests on new connections so meanwhile, without the server."""
        self._answer = answer
        self.close_idle()
        try:
            yield
        finally:
            self._answer = b""

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=512)

    async def _leave(self) -> None:
        if self._server:
            self._server.close()
        for link in list(self._links):
            link.reset()

    def _run(self, main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(main)

    async def _serve(self, ready: Event, stop: asyncio.Event) -> None:
        await self._listen()
        ready.set()
        await stop.wait()
        if self._server:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer := self._answer:
            with suppress(OSError, EOFError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
            writer.close()
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pump(link, reader, server, is_answer=False),
                self._pump(link, answers, writer, is_answer=True),
            )
        except asyncio.CancelledError:
            pass  # The proxy stops.
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_answer: bool,
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if not link.is_forgotten:
                    link.is_idle = is_answer
                    writer.write(data)
                    await writer.drain()
        except OSError:
            if not link.is_forgotten:
                link.reset()
        # A forgotten connection's end is not passed on either.
        if not link.is_forgotten:
            writer.close()
