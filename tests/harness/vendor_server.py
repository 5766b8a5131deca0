"""The SMS gateway as its vendor's page describes it, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Event
from urllib.parse import parse_qs, urlsplit

from harness.http_server import HttpServer, Response


def accepted(mid: str) -> tuple[int, dict[str, object]]:
    return 200, {"code": 200, "msg": "ok", "mid": mid}


def refused(mid: str) -> tuple[int, dict[str, object]]:
    return 200, {"code": 400, "msg": "校验失败", "mid": ""}


class VendorServer(HttpServer):
    """An HTTP server written from the vendor's page, sharing no code with the sandbox."""

    def __init__(self) -> None:
        super().__init__()
        self.url = f"{self.origin}/"
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.before_answer: Callable[[str], None] = lambda mid: None
        self.answer: Callable[[str], tuple[int, dict[str, object]]] = accepted
        """Gives the HTTP status and the JSON of an answer, for a mid that is new."""
        self._gate = Event()
        self._gate.set()

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> Response:
        self.calls.append((path, headers))
        mid = f"{len(self.calls):016X}"
        self.before_answer(mid)
        self._gate.wait(60)
        status, answer = self.answer(mid)
        return status, {}, json.dumps(answer).encode()

    def phones(self) -> list[str]:
        """Give the number of each call, in order."""
        return [parse_qs(urlsplit(path).query)["mobphone"][0] for path, _ in self.calls]

    def withhold(self) -> None:
        """Take calls, but answer none before `release`."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()
