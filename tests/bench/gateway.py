"""A gateway that notes when each call arrives and does little else, as a process of its own.

    python -m bench.gateway PORT

Calls are answered as the vendor's page says. Under /_ it is told how to answer, and tells its log.
It shares no code with the sandbox, whose work at each call would blur the times.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LAG_LOOK_S = 0.005
BEFORE_THE_WORKERS = -10  # niceness: their load must not show as lateness of arrivals


def answer(status: int, body: dict[str, Any]) -> bytes:
    """Write an HTTP answer that keeps the connection."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return f"{head}\r\n\r\n".encode() + data


class Book:
    """How to answer, and what came."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.latency_s = 0.1
        self.calls: list[tuple[float, float, str, str, str, str]] = []
        self.worst_lag_s = 0.0
        self._mids = 0

    def note(self, query: dict[str, str], secret: str) -> bytes | None:
        """Note a call; give the answer, None where there is none."""
        at, wall = time.monotonic(), time.time()
        self._mids += 1
        mid = f"{self._mids:016X}" if self.mode == "ok" else ""
        self.calls.append((at, wall, query.get("mobphone", ""), secret, self.mode, mid))
        return {
            "ok": lambda: answer(200, {"code": 200, "msg": "ok", "mid": mid}),
            "500": lambda: answer(500, {}),
            "503": lambda: answer(503, {}),
            "400": lambda: answer(200, {"code": 400, "msg": "校验失败", "mid": ""}),
            "silent": lambda: None,
        }[self.mode]()

    def control(self, path: str, query: dict[str, str]) -> bytes:
        """Do what the bench asks."""
        if path == "/_set":
            self.mode = query.get("mode", self.mode)
            self.latency_s = float(query.get("latency", self.latency_s))
        elif path == "/_clear":
            self.calls, self.worst_lag_s = [], 0.0
        elif path == "/_log":
            start = int(query.get("start", 0))
            return answer(200, {"calls": self.calls[start:], "lag_s": self.worst_lag_s})
        return answer(200, {"at": time.monotonic()})

    async def watch_lag(self) -> None:
        """Note how late this process itself is at the worst."""
        while True:
            due = time.monotonic() + LAG_LOOK_S
            await asyncio.sleep(LAG_LOOK_S)
            self.worst_lag_s = max(self.worst_lag_s, time.monotonic() - due)


class Caller(asyncio.Protocol):
    """One kept-alive connection, whose requests have no body."""

    def __init__(self, book: Book, later: Callable[..., Any]) -> None:
        self._book = book
        self._later = later
        self._unread = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while b"\r\n\r\n" in self._unread:
            request, _, self._unread = self._unread.partition(b"\r\n\r\n")
            self._take(request.decode())

    def _take(self, request: str) -> None:
        line, *headers = request.split("\r\n")
        target = urlsplit(line.split(" ")[1])
        query = dict(parse_qsl(target.query))
        if target.path.startswith("/_"):
            self._send(self._book.control(target.path, query))
            return
        names = ("authorization: ", "Authorization: ")
        secret = next((h[len(names[0]) :] for h in headers if h.startswith(names)), "")
        told = self._book.note(query, secret)
        if told is not None:
            self._later(self._book.latency_s, self._send, told)

    def _send(self, told: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(told)


async def serve(port: int) -> None:
    """Take calls until killed."""
    loop, book = asyncio.get_running_loop(), Book()
    server = await loop.create_server(
        lambda: Caller(book, loop.call_later), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await book.watch_lag()


if __name__ == "__main__":
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, BEFORE_THE_WORKERS)
    gc.disable()  # a collection of a long log is a lateness of milliseconds
    asyncio.run(serve(int(sys.argv[1])))
