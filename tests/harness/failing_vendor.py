"""A gateway that fails in every way, and notes what may have become an SMS."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Condition, Event, Thread
from typing import Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

import requests

from smsq_worker.infra.ports import free_port

Mode = Literal["ok", "refused", "503", "busy", "balance", "garbage", "silent", "killed"]
DOUBTFUL: Final = ("garbage", "silent", "killed")
"""The worst is assumed of these: that each call was an SMS."""
SILENT_S: Final = 30.0
NO_BALANCE: Final = "MA:0015"

_ANSWERS: Final = {
    "refused": (200, '{"code": 400, "msg": "校验失败", "mid": ""}'),
    "503": (503, ""),
    "busy": (429, ""),
    "garbage": (200, "<html>Welcome"),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Say nothing of callers that died."""


class FailingVendor:
    """Written from the vendor's page; it shares no code with the sandbox."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.mode: Mode = "ok"
        self.calls: list[tuple[float, str, Mode]] = []
        """When each came, its number, and what became of it."""
        self.sent = Counter[str]()
        """How many SMS may have gone to each number."""
        self._reports: list[dict[str, str]] = []
        self._changed, self._over = Condition(), Event()
        self._mids = count(1)
        self._server: _Server | None = None
        self._reporter: Thread | None = None

    def becomes(self, mode: Mode) -> None:
        """Fail so from now on; calls that wait for an answer get none."""
        with self._changed:
            self.mode = mode
            self._changed.notify_all()
        if mode == "killed":
            self._close()
        elif self._server is None:
            self._open()

    def taken(self, mode: Mode = "ok") -> int:
        """Count the calls that came in a mode."""
        return sum(one == mode for _, _, one in self.calls)

    def reports_to(self, url: str) -> None:
        """Report what it accepted, until it is closed: what is not taken is reported again."""
        self._reporter = Thread(target=self._report_forever, args=(url,), daemon=True)
        self._reporter.start()

    def _report_forever(self, url: str) -> None:
        while not self._over.wait(0.05):
            some = self._reports[:200]
            with suppress(requests.RequestException):
                if some and requests.post(url, json=some, timeout=10).ok:
                    del self._reports[: len(some)]

    def _answer(self, phone: str) -> tuple[int, str] | None:
        """Note a call; give its answer, None where it gets none."""
        mode = self.mode
        self.calls.append((time.monotonic(), phone, mode))
        if mode in {"ok", "balance"}:
            mid = f"{next(self._mids):016X}"
            self.sent[phone] += mode == "ok"
            stat = "DELIVRD" if mode == "ok" else NO_BALANCE
            self._reports.append({"mid": mid, "stat": stat})
            return 200, json.dumps({"code": 200, "msg": "ok", "mid": mid})
        self.sent[phone] += mode in DOUBTFUL
        if mode == "silent":
            with self._changed:
                self._changed.wait_for(lambda: self.mode != mode, SILENT_S)
        return _ANSWERS.get(mode)

    def _open(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                phone = parse_qs(urlsplit(self.path).query)["mobphone"][0]
                answer = outer._answer(phone)
                if answer is None:
                    self.close_connection = True
                    with suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, text = answer
                body = text.encode()
                with suppress(OSError):  # the caller may be dead
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = server = _Server(("127.0.0.1", self.port), Handler)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def _close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.becomes("killed")
        if self._reporter:
            self._reporter.join(30)
