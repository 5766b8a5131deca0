"""The HTTP API, in a process of its own and in this one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import redis
import requests
import uvicorn
from starlette.applications import Starlette

from harness.credentials import RELAY, SECRET, TOKEN
from harness.envelopes import with_decoded_body
from harness.fork_server import same_start, server
from harness.waiting import eventually
from smsq import app as producer
from smsq import keys
from smsq.publishing import publish_reports
from smsq.wakeup import of_reports
from smsq_worker.api.app import create_api
from smsq_worker.api.auth import Authenticator
from smsq_worker.api.clients import Callers
from smsq_worker.api.crowd import Bounds
from smsq_worker.api.protocol import BoundedProtocol
from smsq_worker.api.relay import Relay
from smsq_worker.api.room import Share
from smsq_worker.api.routes import Api
from smsq_worker.api.server import configured
from smsq_worker.config.settings import Settings
from smsq_worker.delivery_reports.inbox import Inbox
from smsq_worker.infra.spool import Spool
from smsq_worker.ledger import Ledger

PHONE = "13800138000"
CODE = "482913"
MID = "1151894566D2EDD9"
REPORT = {"mid": MID, "stat": "DELIVRD"}
PATIENCE_S = 60.0


@dataclass(frozen=True)
class RunningApi:
    """An API in a process of its own."""

    url: str
    log: Path

    def post(self, data: Any, content_type: str | None = "application/json") -> requests.Response:
        headers = {} if content_type is None else {"Content-Type": content_type}
        return requests.post(self.reports, data=data, headers=headers, timeout=PATIENCE_S)

    def report(self, *reports: Mapping[str, str]) -> requests.Response:
        return self.post(json.dumps(reports[0] if len(reports) == 1 else reports))

    def get(
        self, path: str, authorization: str | None = None, language: str = ""
    ) -> requests.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        if language:
            headers["Accept-Language"] = language
        return requests.get(f"{self.url}{path}", headers=headers, timeout=PATIENCE_S)

    def delete(self, path: str, authorization: str | None = None) -> requests.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        return requests.delete(f"{self.url}{path}", headers=headers, timeout=PATIENCE_S)

    @property
    def reports(self) -> str:
        return f"{self.url}/reports/{TOKEN}"

    def connect(self) -> socket.socket:
        return connection(self.url)


def connection(url: str) -> socket.socket:
    host, _, port = urlsplit(url).netloc.partition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


@contextmanager
def serving(
    environ: Mapping[str, str], log: Path, *, named: tuple[str, str] = ("SMSQ_API_BIND", "API")
) -> Iterator[RunningApi]:
    """Run `smsq serve`; at the end, see that it stops in peace and has told no secret.

    `named` is how this release calls its setting and itself.
    """
    setting, name = named
    reading, writing = os.pipe()
    with os.fdopen(reading) as out, log.open("wb") as err:
        process = _started({**environ, setting: "127.0.0.1:0"}, writing, err.fileno())
        os.close(writing)
        try:
            line = out.readline()
            assert line.startswith(f"{name} ready: http://127.0.0.1:"), log.read_text()
            api = RunningApi(line.split()[-1].rstrip("/"), log)
            eventually(lambda: answers(api.url))
            yield api
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    assert process.returncode == 0
    told = log.read_text()
    for secret in (TOKEN, RELAY, SECRET, PHONE, CODE, "Traceback", "Warning:"):
        assert secret not in told, told


def _started(environ: Mapping[str, str], out: int, err: int) -> subprocess.Popen[bytes]:
    """Start it, without the imports where that makes no difference."""
    if same_start(environ):
        return server("commands").start(["serve"], environ, out, err)
    command = [sys.executable, "-W", "error", "-m", "smsq_worker", "serve"]
    return subprocess.Popen(command, env=dict(environ), stdout=out, stderr=err)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=PATIENCE_S).ok
    except requests.ConnectionError:
        return False


def inbox(client: redis.Redis) -> set[tuple[str, str]]:
    members: Any = client.zrange(keys.INBOX, 0, -1)
    return {tuple(json.loads(member)) for member in members}


def is_empty(client: redis.Redis) -> bool:
    """Tell whether nothing was kept but how many reports were refused."""
    return set(client.scan_iter()) <= {keys.DURATIONS}


def published(client: redis.Redis) -> list[tuple[str, str]]:
    """The reports on the queue, oldest first."""
    messages: Any = client.lrange("sms.report", 0, -1)
    found: list[tuple[str, str]] = []
    for message in map(json.loads, reversed(messages)):
        assert message["headers"]["task"] == "smsq.reconcile_report"
        (reports,), kwargs, _ = with_decoded_body(message)["body"]
        assert kwargs == {}
        found += map(tuple, reports)
    return found


def application(
    settings: Settings,
    ledger: Ledger,
    client: redis.Redis,
    spool: Path,
    *,
    share: Share | None = None,
    **options: Any,
) -> Starlette:
    """Put an API together as `smsq serve` does."""
    inbox = Inbox(
        ledger,
        Spool(spool, "reports"),
        publish_reports=partial(publish_reports, producer.app),
        wakeup=partial(of_reports, producer.app) if settings.is_one_redis else None,
    )
    access = Authenticator(Callers.load(settings.relay_callers, settings.relay_secret))
    api = Api(settings, ledger, client, inbox, access, **options)
    return create_api(api, Relay(settings, ledger, access, **options), share)


@contextmanager
def in_process(config: uvicorn.Config, *, both: bool = False) -> Iterator[str]:
    """Run an API in a thread of this process, on IPv4 or on both; gives its URL."""
    server = uvicorn.Server(config)
    family, host = (socket.AF_INET6, "::") if both else (socket.AF_INET, "127.0.0.1")
    with socket.create_server(
        (host, 0), family=family, backlog=1024, dualstack_ipv6=both
    ) as listening:
        # So that a client that does not read is soon noticed.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)


SHORT_S = 2.0
LONG_S = 600.0
Serve = Callable[..., AbstractContextManager[str]]


def served_by(head_timeout_s: float, answer_timeout_s: float = LONG_S) -> type[BoundedProtocol]:
    """Give a protocol with other times."""
    times = {"head_timeout_s": head_timeout_s, "answer_timeout_s": answer_timeout_s}
    return type("Timed", (BoundedProtocol,), times)


PATIENT = served_by(LONG_S)
IMPATIENT = served_by(SHORT_S)


@contextmanager
def serving_here(
    client: redis.Redis,
    environ: Mapping[str, str],
    spool: Path,
    protocol: type[BoundedProtocol] = PATIENT,
    *,
    bounds: Bounds | None = None,
    share: Share | None = None,
    keep_alive_s: int = 600,
    body_timeout_s: float = LONG_S,
    both: bool = False,
    **more: str,
) -> Iterator[str]:
    settings = Settings.load({**environ, **more})
    app = application(
        settings,
        Ledger(client, settings.rules),
        client,
        spool,
        share=share,
        body_timeout_s=body_timeout_s,
    )
    proxies = settings.trusted_proxies
    config = configured(app, proxies, protocol=protocol, bounds=bounds)
    config.timeout_keep_alive = keep_alive_s
    with in_process(config, both=both) as url:
        yield url


def answer_of(sock: socket.socket) -> bytes:
    """Give all that comes until the API closes."""
    try:
        return b"".join(iter(partial(sock.recv, 65_536), b""))
    except ConnectionResetError:
        return b""
