"""A server that reads requests off the wire and says whatever a test's script has it say."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import pytest

# For the cases that must run into it.
SOON_S = 0.2


@dataclass(frozen=True)
class Request:
    """A request as it came over the wire."""

    connection: int
    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("ascii")

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("ascii").split("\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True, strict_parsing=True)


class Handler(socketserver.BaseRequestHandler):
    """Reads requests from a connection and has the server's script answer each."""

    server: Server

    def handle(self) -> None:
        number = self.server.enter(self.request)
        with ExitStack() as stack:
            sock = self.request
            if self.server.tls:
                sock = stack.enter_context(self.server.tls.wrap_socket(sock, server_side=True))
            while head := read_head(sock):
                request = Request(number, head, read_body(sock, head))
                self.server.requests.append(request)
                if not self.server.script(sock, request):
                    break
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.server.ended.release()


def read_head(sock: socket.socket) -> bytes:
    """Read up to the empty line; what came of it where the other side ends before."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (more := sock.recv(1)):
        head += more
    return head


def read_body(sock: socket.socket, head: bytes) -> bytes:
    """Read what a head says that follows it."""
    length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    body = b""
    while length and len(body) < int(length[1]) and (more := sock.recv(4096)):
        body += more
    return body


Script = Callable[[socket.socket, Request], object]


class Server(socketserver.ThreadingTCPServer):
    """A server on loopback whose script answers a request and tells whether to keep on."""

    request_queue_size = 128

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.tls = tls
        self.requests: list[Request] = []
        self.ended = threading.Semaphore(0)
        """Released for each conversation that came to its end."""
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def enter(self, sock: socket.socket) -> int:
        self._open.append(sock)
        return len(self._open)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients break off here on purpose."""

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.server_close()


def http_answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def says(*parts: bytes, keep: bool = True) -> Script:
    """Say the same to each request."""

    def script(sock: socket.socket, _: Request) -> bool:
        for part in parts:
            sock.sendall(part)
        return keep

    return script


def is_silent(*parts: bytes) -> Script:
    """Say something, and then no more until the client goes away."""

    def script(sock: socket.socket, _: Request) -> None:
        for part in parts:
            sock.sendall(part)
        sock.recv(1)

    return script


def resets(sock: socket.socket, _: Request) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def dribbles(before: bytes, dribbled: bytes, after: bytes) -> Script:
    """Send one byte after the other, each soon enough for a timeout that counts from the last."""

    def script(sock: socket.socket, _: Request) -> None:
        sock.sendall(before)
        for byte in dribbled:
            time.sleep(SOON_S / 20)
            sock.sendall(bytes([byte]))
        sock.sendall(after)

    return script


def talks_for_ever(sock: socket.socket, _: Request) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(b" " * 4096)


@contextmanager
def refusing() -> Iterator[str]:
    """Hold a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@contextmanager
def unanswering() -> Iterator[str]:
    """Listen with a queue that is full, so that further connections find no answer."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(64):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(SOON_S)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.fail("this system's queue of connections has no end")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
