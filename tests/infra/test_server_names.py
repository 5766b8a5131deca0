"""Whoever has a certificate for another name gets no password: brokers and Redis over TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import kombu
import pytest
import redis
import trustme

from harness.certificates import certified
from harness.waiting import eventually
from smsq.connection import connect_impatiently
from smsq.redis_urls import as_broker
from smsq_worker.callbacks.channels import channels
from smsq_worker.callbacks.notify_broker import as_notify_broker
from smsq_worker.config.settings import Settings
from smsq_worker.ledger.callbacks import Callback

PASSWORD = "broker-password-77"


@dataclass
class TlsServer:
    """Takes connections over TLS with one certificate; keeps the first bytes of each."""

    context: ssl.SSLContext
    heard: list[bytes] = field(default_factory=list)
    """Of the connections on which the client went on after the handshake."""
    tried: int = 0
    port: int = 0

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                raw, _ = listening.accept()
            except OSError:
                return
            raw.settimeout(5)
            with suppress(OSError), self.context.wrap_socket(raw, server_side=True) as secure:
                if first := secure.recv(64):
                    self.heard.append(first)
            self.tried += 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


def serving(ca: trustme.CA, name: str) -> Iterator[TlsServer]:
    server = TlsServer(certified(ca, name))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listening,), daemon=True)
        thread.start()
        yield server
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.fixture
def right(authority: tuple[trustme.CA, Path]) -> Iterator[TlsServer]:
    yield from serving(authority[0], "localhost")


@pytest.fixture
def wrong(authority: tuple[trustme.CA, Path]) -> Iterator[TlsServer]:
    yield from serving(authority[0], "another.example")


def address(scheme: str, server: TlsServer, ca: Path, more: str = "") -> str:
    path = "main/0" if "sentinel" in scheme else "0" if "redis" in scheme else "shop"
    options = f"ssl_cert_reqs=required&ssl_ca_certs={quote(str(ca))}{more}"
    return f"{scheme}://user:{PASSWORD}@localhost:{server.port}/{path}?{options}"


def try_amqps(url: str) -> None:
    broker = as_notify_broker(url)
    with kombu.Connection(broker.url, ssl=broker.ssl, connect_timeout=3) as connection:
        connection.connect()


def try_client(url: str) -> None:
    with connect_impatiently(url, 3) as client:
        client.execute_command("PING")


WAYS = {
    "amqps": ("amqps", try_amqps),
    "rediss": ("rediss", try_client),
    "Sentinels": ("rediss+sentinel", try_client),
}
ERRORS = (OSError, redis.RedisError, kombu.exceptions.OperationalError)


@pytest.mark.parametrize(("scheme", "attempt"), WAYS.values(), ids=WAYS)
def test_a_certificate_of_another_name_is_refused(
    scheme: str, attempt: object, wrong: TlsServer, authority: tuple[trustme.CA, Path]
) -> None:
    with pytest.raises(ERRORS, match="certificate verify failed"):
        attempt(address(scheme, wrong, authority[1]))  # type: ignore[operator]
    eventually(lambda: wrong.tried)
    assert wrong.heard == []


@pytest.mark.parametrize(("scheme", "attempt"), WAYS.values(), ids=WAYS)
def test_the_right_name_is_taken(
    scheme: str, attempt: object, right: TlsServer, authority: tuple[trustme.CA, Path]
) -> None:
    with pytest.raises(ERRORS):  # It hangs up: it is no broker.
        attempt(address(scheme, right, authority[1]))  # type: ignore[operator]
    first = eventually(lambda: right.heard)[0]
    assert first.startswith(b"AMQP" if scheme == "amqps" else b"*")


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel"])
def test_kombu_is_told_to_check_the_name(scheme: str) -> None:
    # Older redis-py does not by default.
    path = "main/0" if "sentinel" in scheme else "0"
    broker = as_broker(f"{scheme}://redis/{path}?ssl_cert_reqs=required")
    for told in (broker.ssl, *filter(None, [broker.options.get("sentinel_kwargs")])):
        assert told
        assert told["ssl_check_hostname"] is True
        assert told["ssl_cert_reqs"] == "required"


def test_the_check_of_the_name_can_be_turned_off(
    wrong: TlsServer, authority: tuple[trustme.CA, Path]
) -> None:
    with pytest.raises(ERRORS):
        try_amqps(address("amqps", wrong, authority[1], "&ssl_check_hostname=false"))
    assert eventually(lambda: wrong.heard)[0].startswith(b"AMQP")


def test_a_certificate_of_an_authority_that_is_not_named_is_refused(right: TlsServer) -> None:
    with pytest.raises(ERRORS, match="certificate verify failed"):
        try_amqps(f"amqps://user:{PASSWORD}@localhost:{right.port}/shop")
    eventually(lambda: right.tried)
    assert right.heard == []


def test_a_callback_is_not_told_to_a_broker_of_another_name(
    wrong: TlsServer, authority: tuple[trustme.CA, Path]
) -> None:
    url = address("amqps", wrong, authority[1])
    task = channels(Settings.load({"SMSQ_NOTIFY_BROKER_URL": url}))["task"]
    outcome = {"id": "m1", "state": "delivered"}
    callback = Callback("task:delivered:m1", "task", 0, 1, outcome, "shop.told", None, "", None)
    assert not task(callback).done
    eventually(lambda: wrong.tried)
    assert wrong.heard == []


@pytest.mark.parametrize(
    "query", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_ciphers=x", "ssl_ca_cert=x"]
)
def test_an_option_that_would_weaken_it_or_does_not_exist_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="the certificate is always checked"):
        Settings.load({"SMSQ_NOTIFY_BROKER_URL": f"amqps://rabbit/shop?{query}"})
