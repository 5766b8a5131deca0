"""A gateway that notes when each call arrives and does little else, as a process of its own.

    python -m bench.gateway PORT

Calls are answered as the vendor's page says. Under /_ it is told how to answer, and tells its log.
It shares no code with the sandbox, whose work at each call would blur the times. Where the kernel
tells when it received a request (Linux), that is when it arrived: however busy the machine is.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LAG_LOOK_S = 0.005
SO_TIMESTAMPNS = 35  # of Linux; the socket module does not name it
SECRET = "Authorization: "
REFUSED_ONCE = "1395"
"""So begin the numbers whose first call is answered with 408: not taken, and no wish for fewer."""
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
        self._refused = set[str]()

    def note(self, arrived: float, query: dict[str, str], secret: str) -> bytes | None:
        """Note a call; give the answer, None where there is none."""
        at = time.monotonic() - (time.time() - arrived)
        self._mids += 1
        phone, mode = query.get("mobphone", ""), self.mode
        if phone.startswith(REFUSED_ONCE) and phone not in self._refused:
            self._refused.add(phone)
            mode = "408"
        mid = f"{self._mids:016X}" if mode == "ok" else ""
        self.calls.append((at, arrived, phone, secret, mode, mid))
        return {
            "ok": lambda: answer(200, {"code": 200, "msg": "ok", "mid": mid}),
            "500": lambda: answer(500, {}),
            "503": lambda: answer(503, {}),
            "408": lambda: answer(408, {}),
            "400": lambda: answer(200, {"code": 400, "msg": "校验失败", "mid": ""}),
            "rubbish": lambda: answer(200, {}),
            "silent": lambda: None,
        }[mode]()

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


class Caller:
    """One kept-alive connection, whose requests have no body."""

    def __init__(self, connection: socket.socket, book: Book) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._book = book
        self._unread = b""
        self._loop.add_reader(connection, self._read)

    def _read(self) -> None:
        try:
            data, extra, _, _ = self._connection.recvmsg(65_536, 128)
        except OSError:
            data, extra = b"", []
        if not data:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            return
        arrived, self._unread = stamp(extra), self._unread + data
        while b"\r\n\r\n" in self._unread:
            request, _, self._unread = self._unread.partition(b"\r\n\r\n")
            self._take(request.decode(), arrived)

    def _take(self, request: str, arrived: float) -> None:
        line, *headers = request.split("\r\n")
        target = urlsplit(line.split(" ")[1])
        query = dict(parse_qsl(target.query))
        if target.path.startswith("/_"):
            # The log is long; only the bench asks for it, and it reads.
            self._connection.setblocking(True)
            self._connection.sendall(self._book.control(target.path, query))
            self._connection.setblocking(False)
            return
        secret = next((h[len(SECRET) :] for h in headers if h.startswith(SECRET)), "")
        told = self._book.note(arrived, query, secret)
        if told is not None:
            self._loop.call_later(self._book.latency_s, self._send, told)

    def _send(self, told: bytes) -> None:
        with suppress(OSError):  # the caller may be dead
            self._connection.send(told)


def stamp(extra: Any) -> float:
    """Give the wall-clock time at which the kernel received it, where it says so."""
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("qq", data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()


async def serve(port: int) -> None:
    """Take calls until killed."""
    loop, book = asyncio.get_running_loop(), Book()
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        listening.setblocking(False)
        if sys.platform == "linux":
            listening.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        watching = asyncio.create_task(book.watch_lag())
        while not watching.done():
            connection, _ = await loop.sock_accept(listening)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Caller(connection, book)


if __name__ == "__main__":
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, BEFORE_THE_WORKERS)
    gc.disable()  # a collection of a long log is a lateness of milliseconds
    asyncio.run(serve(int(sys.argv[1])))
