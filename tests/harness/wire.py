"""A message by Redis commands alone, as docs/guides/other-languages.md describes it."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from harness.api import RunningApi, serving
from harness.credentials import RELAY
from harness.documents import page
from harness.machine import Machine, machine
from harness.waiting import eventually

WIRE = page("guides/other-languages.md")
Envelope = dict[str, Any]


def example() -> Envelope:
    """The example, with its placeholders filled in."""
    (text,) = re.findall(r"^```json\n(.*?)^```", WIRE, re.DOTALL | re.MULTILINE)
    filled = text.replace('"ID"', f'"{uuid4()}"').replace('"TAG"', f'"{uuid4()}"')
    message: Envelope = json.loads(filled)
    return message


def body_of(message: Envelope) -> list[Any]:
    body: list[Any] = json.loads(base64.b64decode(message["body"]))
    return body


def with_body(*body: object) -> Envelope:
    return example() | {"body": base64.b64encode(json.dumps(body).encode()).decode()}


@dataclass
class Wire:
    """A running product, and a socket's way to its Redis."""

    host: Machine
    api: RunningApi

    def command(self, *words: str) -> str:
        """Speak RESP: give a reply's text, "" for none."""
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        address = urlsplit(self.host.environ["SMSQ_REDIS_URL"])
        assert address.hostname
        assert address.port
        with (
            socket.create_connection((address.hostname, address.port)) as raw,
            closing(raw.makefile("rb")) as replies,
        ):
            raw.sendall(request)
            head = replies.readline().decode().strip()
            assert head[0] in ":$", head
            return replies.readline().decode().strip() if head[0] == "$" and head != "$-1" else ""

    def push(self, message: Envelope, queue: str = "sms.otp") -> str:
        self.command("LPUSH", queue, json.dumps(message))
        return str(message["headers"].get("id", ""))

    def field(self, message_id: str, name: str = "state") -> str:
        return self.command("HGET", f"smsq:m:{message_id}", name)

    def becomes(self, message_id: str, state: str) -> dict[str, Any]:
        eventually(lambda: self.field(message_id) == state)
        # A response is true if it is OK; 503 where Redis does not answer the API soon enough.
        answer = eventually(lambda: self.api.get(f"/messages/{message_id}", RELAY))
        told: dict[str, Any] = answer.json()
        assert told["state"] == state
        return told


def fresh(message: Envelope) -> Envelope:
    """Let a message hold no key, which the example's first holder has for a day."""
    args, named, rest = body_of(message)
    named.pop("key")
    return message | {"body": base64.b64encode(json.dumps([args, named, rest]).encode()).decode()}


@contextmanager
def wired(base_environ: Mapping[str, str], folder: Path) -> Iterator[Wire]:
    """Run a worker and the HTTP API."""
    # The example's number gets more than one otp here.
    environ = {**base_environ, "SMSQ_PHONE_LIMITS": ""}
    with machine(environ, folder) as host, serving(host.environ, folder / "door") as api:
        host.client.flushall()
        host.start_worker()
        yield Wire(host, api)
