"""How many reports a second the API takes on one core."""

from __future__ import annotations

import re
import secrets
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from bench.peers.drain import redis_pid
from bench.peers.usage import cores, cpu_s, on
from bench.place import Place
from bench.product import API_BIND, api_service, free_port
from harness.waiting import eventually
from smsq import keys
from smsq.contract import REPORT_QUEUE

CONNECTIONS = 32
WARM_UP_S = 1.0
SECONDS = 5.0
KNOWN = 60_000
"""More than it takes in that time: of mids that no message has, only 10,000 may wait."""
ANSWER = re.compile(rb"HTTP/1.1 (\d+) .*?\r\ncontent-length: (\d+)\r\n.*?(?<=\r\n)\r\n", re.DOTALL)


@dataclass(frozen=True)
class Taken:
    """What the API did, and whether it was the API that bounded it."""

    per_s: float
    door_cpu: float
    client_cpu: float
    redis_cpu: float
    pinned: bool


def measure(place: Place) -> Taken:
    """Post reports as fast as one API takes them. No worker runs, so they stay in the inbox."""
    token, port = secrets.token_hex(24), free_port()
    bind = f"127.0.0.1:{port}"
    place.fresh("door", **{"SMSQ_REPORT_TOKEN": token, API_BIND: bind})
    service = api_service(f"http://{bind}/", place.environ)
    one, others = cores() or (None, None)
    with (place.folder / "door.log").open("wb") as log, on(one):
        door = subprocess.Popen(service.command, env=place.environ, stdout=log, stderr=log)
    try:
        eventually(lambda: door.poll() is not None or service.ready(), 60)
        assert door.poll() is None, f"the door ended, see {place.folder}"
        with on(others), on(others, redis_pid(place)):
            _make_known(place)
            requests = _reports(token)
            hammer(port, requests, WARM_UP_S)
            place.client.unlink(keys.INBOX, REPORT_QUEUE)  # Of a crowd not all are woken up.
            before = (cpu_s(door.pid), time.process_time(), cpu_s(redis_pid(place)))
            answers, seconds = hammer(port, requests, SECONDS)
            after = (cpu_s(door.pid), time.process_time(), cpu_s(redis_pid(place)))
    finally:
        door.kill()
        door.wait()
    shares = [(a - b) / seconds for b, a in zip(before, after, strict=True)]
    return Taken(answers / seconds, *shares, pinned=one is not None)


def hammer(port: int, requests: Iterator[bytes], seconds: float) -> tuple[int, float]:
    """Keep connections busy, a request at a time on each; give the answers, and in which time.

    Fails where one is not answered with 200.
    """
    callers = [_Caller(port, requests) for _ in range(CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            selector.register(caller.connection, selectors.EVENT_READ, caller)
        began, answers = time.monotonic(), 0
        for caller in callers:
            caller.ask()
        while (took := time.monotonic() - began) < seconds:
            for key, _ in selector.select(1):
                if key.data.answered():
                    answers += 1
                    key.data.ask()
    for caller in callers:
        caller.connection.close()
    return answers, took


class _Caller:
    """One kept-alive connection."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._unread = b""

    def ask(self) -> None:
        self.connection.sendall(next(self._requests))

    def answered(self) -> bool:
        """Read; tell whether the answer is complete."""
        data = self.connection.recv(65_536)
        assert data, "the connection was closed"
        self._unread += data
        head = ANSWER.match(self._unread)
        if head is None or len(self._unread) < head.end() + int(head[2]):
            return False
        assert head[1] == b"200", self._unread
        self._unread = b""
        return True


def _make_known(place: Place) -> None:
    with place.client.pipeline(transaction=False) as pipe:
        for mid in map(_mid, range(KNOWN)):
            pipe.set(keys.mid(mid), f"1 {mid}")
        pipe.execute()


def _mid(n: int) -> str:
    return f"{n:016X}"


def _reports(token: str) -> Iterator[bytes]:
    """Write requests, each with a mid of its own."""
    for mid in map(_mid, count()):
        body = b'{"mid": "%s", "stat": "DELIVRD"}' % mid.encode()
        yield (
            f"POST /reports/{token} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
