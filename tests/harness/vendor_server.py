"""The SMS gateway as its vendor's page describes it, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Self
from urllib.parse import parse_qs, urlsplit


def accepted(mid: str) -> tuple[int, dict[str, object]]:
    return 200, {"code": 200, "msg": "ok", "mid": mid}


def refused(mid: str) -> tuple[int, dict[str, object]]:
    return 200, {"code": 400, "msg": "校验失败", "mid": ""}


class VendorServer:
    """An HTTP server written from the vendor's page, sharing no code with the sandbox."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.before_answer: Callable[[str], None] = lambda mid: None
        self.answer: Callable[[str], tuple[int, dict[str, object]]] = accepted
        """Gives the HTTP status and the JSON of an answer, for a mid that is new."""
        self._gate = Event()
        self._gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.calls.append((self.path, dict(self.headers.items())))
                mid = f"{len(outer.calls):016X}"
                outer.before_answer(mid)
                outer._gate.wait(60)
                status, answer = outer.answer(mid)
                body = json.dumps(answer).encode()
                with suppress(OSError):  # the caller may be dead
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def phones(self) -> list[str]:
        """Give the number of each call, in order."""
        return [parse_qs(urlsplit(path).query)["mobphone"][0] for path, _ in self.calls]

    def withhold(self) -> None:
        """Take calls, but answer none before `release`."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
