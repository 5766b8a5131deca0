"""A receiver of callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event
from typing import Any

from harness.http_server import HttpServer, Response


class Receiver(HttpServer):
    """An HTTP server that takes outcomes, or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.status: Callable[[], int] = lambda: 200
        self.gate = Event()
        self.gate.set()

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        self.posts.append((path, headers, body))
        self.gate.wait(60)
        return self.status(), {}, b""

    @property
    def url(self) -> str:
        return f"{self.origin}/hook?of=us"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.posts]

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        super().__exit__()
