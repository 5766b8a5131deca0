"""Redis over TLS, with certificates of a CA of one's own: the embedded server knows no TLS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import kombu
import pytest
import redis
import trustme

from harness.paths import OPS
from harness.vendor_server import VendorServer
from harness.waiting import eventually
from smsq.connection import connect, mapped_errors
from smsq.errors import LedgerUnavailable
from smsq.redis_urls import as_broker
from smsq_worker.devstack import services
from smsq_worker.infra.ports import free_port

USERS = OPS / "redis" / "users.acl"
SEND = """
import smsq
print(smsq.send_sms.delay("13800138000", "SMS_1001", "482913").id)
"""


@dataclass
class Place:
    """A CA, its certificates as files, and servers that use them."""

    folder: Path

    def __post_init__(self) -> None:
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        own = self.ca.issue_cert("127.0.0.1", "localhost")
        own.private_key_pem.write_to_path(str(self.folder / "own.key"))
        own.cert_chain_pems[0].write_to_path(str(self.folder / "own.pem"))

    def url(self, at: str, *, scheme: str = "rediss", path: str = "0", own: bool = True) -> str:
        options = f"ssl_cert_reqs=required&ssl_ca_certs={self.folder / 'ca.pem'}"
        if own:
            options += f"&ssl_certfile={self.folder / 'own.pem'}"
            options += f"&ssl_keyfile={self.folder / 'own.key'}"
        return f"{scheme}://{at}/{path}?{options}"

    @contextmanager
    def server(self, *options: str) -> Iterator[int]:
        port = free_port()
        command = [_redis_server(), *options, "--port", "0", "--tls-port", str(port)]
        command += ["--tls-ca-cert-file", str(self.folder / "ca.pem")]
        command += ["--tls-cert-file", str(self.folder / "own.pem")]
        command += ["--tls-key-file", str(self.folder / "own.key"), "--dir", str(self.folder)]
        with (self.folder / f"{port}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with connect(self.url(f"127.0.0.1:{port}")) as client:
                eventually(lambda: _answers(client))
            yield port
        finally:
            process.kill()
            process.wait()


def _redis_server() -> str:
    found = shutil.which("redis-server")
    if not found:
        pytest.fail("redis-server is not there; it is in Debian's package redis-server")
    return found


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.execute_command("PING"))
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def port(place: Place) -> Iterator[int]:
    with place.server() as port:
        yield port


def test_a_message_goes_its_way_over_tls(
    place: Place, port: int, base_environ: dict[str, str], tmp_path: Path
) -> None:
    url = place.url(f"localhost:{port}")
    with VendorServer() as vendor:
        own = {"SMSQ_REDIS_URL": url, "SMSQ_GATEWAY_URL": vendor.url, "SMSQ_HOME": str(tmp_path)}
        environ = base_environ | own
        service = services.worker(url, environ)
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(service.command, env=dict(environ), stdout=log, stderr=log)
        try:
            eventually(service.ready, 60)
            sent = [sys.executable, "-c", SEND]
            subprocess.run(sent, env=environ, check=True, capture_output=True)
            eventually(lambda: vendor.phones() == ["13800138000"])
        finally:
            worker.terminate()
            worker.wait(60)


def test_a_certificate_of_another_ca_is_refused_in_plain_words(
    place: Place, port: int, base_environ: dict[str, str], tmp_path: Path
) -> None:
    stranger = Place(tmp_path)
    url = stranger.url(f"localhost:{port}", own=False)
    with pytest.raises(LedgerUnavailable, match="certificate verify failed"), mapped_errors(url):
        connect(url).set("here", 1)
    done = subprocess.run(
        [sys.executable, "-m", "smsq_worker", "status", "m1"],
        env=base_environ | {"SMSQ_REDIS_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_the_certificate_does_not_have_is_refused(place: Place, port: int) -> None:
    url = place.url(f"127.0.0.2:{port}")
    with pytest.raises(redis.ConnectionError, match="IP address mismatch"):
        connect(url).set("here", 1)
    unchecked = f"{url}&ssl_check_hostname=false"
    assert connect(unchecked).set("here", 1)


def test_without_a_certificate_of_our_own_the_server_refuses(place: Place, port: int) -> None:
    url = place.url(f"localhost:{port}", own=False)
    with pytest.raises(redis.ConnectionError):
        connect(url).set("here", 1)


def test_sentinels_and_servers_may_both_speak_tls(place: Place, tmp_path: Path) -> None:
    tls = ("--tls-replication", "yes")
    with place.server(*tls) as primary:
        conf = tmp_path / "sentinel.conf"
        conf.write_text(f"sentinel monitor main 127.0.0.1 {primary} 1\n")
        with place.server(str(conf), "--sentinel", *tls) as sentinel:
            url = place.url(f"localhost:{sentinel}", scheme="rediss+sentinel", path="main/0")
            assert eventually(lambda: _sets(url))
            broker = as_broker(url)
            with kombu.Connection(
                broker.url, ssl=broker.ssl, transport_options=broker.options
            ) as connection:
                queue = connection.SimpleQueue("sms.test")
                queue.put("here")
                assert queue.get(timeout=10).payload == "here"
                queue.close()


def _sets(url: str) -> bool:
    try:
        return bool(connect(url).set("here", 1))
    except redis.ConnectionError:  # the Sentinel does not know yet that the server is up
        return False


def test_the_file_of_users_is_taken_by_the_server(place: Place) -> None:
    with place.server("--aclfile", str(USERS)) as port:
        url = place.url(f"smsq-operator:OPERATOR@localhost:{port}")
        with connect(url) as client:
            client.set("smsq:here", 1)
